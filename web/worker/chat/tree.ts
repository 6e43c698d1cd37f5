/** A conversation's messages: what is asked or answered anew stands beside what was there. */
import type { Message } from "../ui/types.ts";

export interface StoredMessage extends Message {
  conversationId: string;
  /** The message that this one follows; null for a conversation's first. */
  parentId: string | null;
}

export class MessageTree {
  readonly #messages = new Map<string, StoredMessage>();
  /** Ids by what they follow, the oldest first. */
  readonly #following = new Map<string | null, string[]>();

  constructor(messages: Iterable<StoredMessage> = []) {
    for (const message of messages) this.put(message);
  }

  get size(): number {
    return this.#messages.size;
  }

  /** All of them, in the order in which they were put. */
  values(): StoredMessage[] {
    return [...this.#messages.values()];
  }

  get(id: string): StoredMessage | undefined {
    return this.#messages.get(id);
  }

  /** Adds a message, or replaces the one of its id. */
  put(message: StoredMessage): void {
    const isNew = !this.#messages.has(message.id);
    this.#messages.set(message.id, message);
    if (!isNew) return;
    const beside = this.#following.get(message.parentId) ?? [];
    this.#following.set(message.parentId, [...beside, message.id].sort());
  }

  /** Takes a message away that nothing follows. */
  remove({ id, parentId }: StoredMessage): void {
    this.#messages.delete(id);
    this.#following.set(parentId, (this.#following.get(parentId) ?? []).filter((one) => one !== id));
  }

  /** From the first message to this one; to the newest if there is none of that id. */
  branch(leafId: string | null): StoredMessage[] {
    const branch = new Set<StoredMessage>();
    let message = this.#messages.get(leafId ?? "") ?? this.#newest();
    // A record that was damaged may follow itself.
    while (message && !branch.has(message)) {
      branch.add(message);
      message = this.#messages.get(message.parentId ?? "");
    }
    return [...branch].reverse();
  }

  /** The messages in the place of this one, itself among them; the oldest first. */
  versions({ parentId }: StoredMessage): StoredMessage[] {
    return (this.#following.get(parentId) ?? []).flatMap((id) => this.#messages.get(id) ?? []);
  }

  /** Where the newest of what follows this message ends: at itself, if nothing does. */
  leafBelow(id: string): string {
    const below = this.#following.get(id)?.at(-1);
    return below === undefined ? id : this.leafBelow(below);
  }

  hasFollowers(id: string): boolean {
    return (this.#following.get(id)?.length ?? 0) > 0;
  }

  #newest(): StoredMessage | undefined {
    const newest = [...this.#messages.keys()].sort().at(-1);
    return newest === undefined ? undefined : this.#messages.get(newest);
  }
}
