/** Where a conversation that has grown too long is cut. */
import type { ChatMessage } from "./request.ts";

/** What a template is reckoned to write around each message, in tokens. */
const MESSAGE_COST = 8;
const QUARTERS = 4;

/** In tokens. */
interface Room {
  /** What the model reads. */
  readonly window: number;
  /** What a prompt may have of it. */
  readonly prompt: number;
}

/** How many system messages come before the first exchange. */
export function firstTurn(messages: readonly ChatMessage[]): number {
  const first = messages.findIndex(({ role }) => role !== "system");
  return first < 0 ? messages.length : first;
}

/**
 * Messages up to which all but the first system messages may be dropped, in the order to try.
 *
 * `lengths` are those of the contents in tokens. Exchanges begin with a user's message. A cut is the
 * first border between exchanges at or after so many quarters of a window, counted from the
 * conversation's beginning: while a conversation grows by a quarter it is cut at the same place, and its
 * prompts begin alike. The first cut is the earliest after which the rest should fit; the last
 * leaves one exchange.
 */
export function cuts(
  messages: readonly ChatMessage[],
  lengths: readonly number[],
  room: Room,
): number[] {
  const start = firstTurn(messages);
  const borders: number[] = [];
  const found: number[] = [];
  const droppedAt = new Map<number, number>();
  let whole = MESSAGE_COST;
  let dropped = 0;
  let quarters = 0;
  for (const [index, { role }] of messages.entries()) {
    if (index > start && role === "user") {
      const reached = Math.floor((QUARTERS * dropped) / room.window);
      if (reached > quarters) found.push(index);
      quarters = reached;
      borders.push(index);
      droppedAt.set(index, dropped);
    }
    const cost = (lengths[index] ?? 0) + MESSAGE_COST;
    whole += cost;
    if (index >= start) dropped += cost;
  }
  const last = borders.at(-1);
  if (last !== undefined && found.at(-1) !== last) found.push(last);
  const fitting = found.findIndex((cut) => whole - (droppedAt.get(cut) ?? 0) <= room.prompt);
  return found.slice(fitting);
}
