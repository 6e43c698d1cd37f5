/** Conversations as files. */
import { el } from "./dom.ts";
import type { Conversation, Message } from "./types.ts";

/** A conversation as text for people. */
export function toMarkdown(conversation: Conversation, messages: readonly Message[]): string {
  const parts = [`# ${conversation.title}`];
  const { systemPrompt } = conversation.settings;
  if (systemPrompt) parts.push(`> ${systemPrompt.replaceAll("\n", "\n> ")}`);
  for (const message of messages) {
    const name = message.role === "user" ? "You" : `Assistant${message.model ? ` (${message.model})` : ""}`;
    parts.push(`## ${name}`, message.content || "_(no text)_");
  }
  return `${parts.join("\n\n")}\n`;
}

/** Hands a text to the browser's downloads. */
export function download(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // The download reads the address after this turn.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** "What is 17 + 25?" -> "what-is-17-25.md" */
export function fileName(title: string, extension: string): string {
  const words = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${words.slice(0, 60) || "conversation"}.${extension}`;
}
