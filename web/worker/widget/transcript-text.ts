/** A conversation as text for people. */
import type { WidgetStrings } from "./strings/table.ts";
import type { WidgetMessage } from "./types.ts";

export function toMarkdown(messages: readonly WidgetMessage[], strings: Partial<WidgetStrings>): string {
  const { you = "You", assistant = "Assistant" } = strings;
  const parts = messages
    .filter(({ role, content }) => role !== "tool" && content !== "")
    .map(({ role, content }) => `## ${role === "user" ? you : assistant}\n\n${content}`);
  return parts.length > 0 ? `${parts.join("\n\n")}\n` : "";
}
