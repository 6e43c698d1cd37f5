/** The conversation in the browser's storage, where the site wants it kept. */
import { newId } from "../ui/ids.ts";
import type { Message } from "../ui/types.ts";
import type { TranscriptStorage } from "./types.ts";

/** Older messages than these aren't kept. */
const MAX_KEPT = 200;

function areaOf(storage: TranscriptStorage): Storage | null {
  try {
    if (storage === "session") return sessionStorage;
    return storage === "local" ? localStorage : null;
  } catch {
    // Denied, as in some frames: the conversation then ends with the page.
    return null;
  }
}

export function keep(messages: readonly Message[], storage: TranscriptStorage, key: string): void {
  const area = areaOf(storage);
  // Where the page is closed now, an answer without a word is none.
  const worthy = messages.filter(({ role, content }) => role === "user" || content !== "");
  try {
    if (worthy.length === 0) area?.removeItem(key);
    else area?.setItem(key, JSON.stringify(worthy.slice(-MAX_KEPT)));
  } catch {
    // Full: what was kept before stays.
  }
}

/** What was kept; nothing of what another version or somebody else wrote. */
export function kept(storage: TranscriptStorage, key: string): Message[] {
  try {
    const found: unknown = JSON.parse(areaOf(storage)?.getItem(key) ?? "[]");
    return Array.isArray(found) && found.every(isMessage) ? found.map(restored) : [];
  } catch {
    return [];
  }
}

function isMessage(value: unknown): value is Message {
  const { role, content } = (value ?? {}) as Record<string, unknown>;
  return (role === "user" || role === "assistant") && typeof content === "string";
}

function restored({ role, content, state, createdAt }: Message): Message {
  const ended = state === "length" || state === "abort" ? state : "stop";
  return { id: newId(), role, content, createdAt, state: ended };
}
