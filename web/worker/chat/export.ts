/** Conversations as files. */
import { el } from "../ui/dom.ts";
import { filled } from "../ui/strings.ts";
import type { Conversation, Message, Thinking } from "../ui/types.ts";
import { STRINGS } from "./strings.ts";

/** A conversation as text for people. */
export function toMarkdown(conversation: Conversation, messages: readonly Message[]): string {
  const parts = [`# ${conversation.title}`];
  const { systemPrompt } = conversation.settings;
  if (systemPrompt) parts.push(`> ${systemPrompt.replaceAll("\n", "\n> ")}`);
  for (const message of messages) {
    parts.push(`## ${authorOf(message)}`);
    if (message.thinking) parts.push(quotedThinking(message.thinking));
    parts.push(message.content || `_(${STRINGS.noText})_`);
  }
  return `${parts.join("\n\n")}\n`;
}

function authorOf({ role, model }: Message): string {
  if (role === "user") return STRINGS.you;
  return model ? `${STRINGS.assistant} (${model})` : STRINGS.assistant;
}

function quotedThinking({ text, seconds }: Thinking): string {
  const summary = filled(STRINGS.thoughtFor, { seconds: seconds.toFixed(1) });
  const details = `<details><summary>${summary}</summary>\n\n${text}\n\n</details>`;
  return details.replace(/^/gm, "> ").replace(/ +$/gm, "");
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
