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

  constructor(messages: readonly StoredMessage[] = []) {
    for (const message of messages) this.#messages.set(message.id, message);
    for (const message of this.#messages.values()) {
      const place = this.#placeOf(message);
      const followers = this.#following.get(place);
      if (followers) followers.push(message.id);
      else this.#following.set(place, [message.id]);
    }
    for (const followers of this.#following.values()) followers.sort();
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
    if (isNew) this.#follow(message);
  }

  /** Takes a message away that nothing follows. */
  remove(message: StoredMessage): void {
    const place = this.#placeOf(message);
    this.#messages.delete(message.id);
    this.#following.set(place, (this.#following.get(place) ?? []).filter((id) => id !== message.id));
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
  versions(message: StoredMessage): StoredMessage[] {
    return (this.#following.get(this.#placeOf(message)) ?? []).flatMap((id) => this.#messages.get(id) ?? []);
  }

  /** Where the newest of what follows this message ends: at itself, if nothing does. */
  leafBelow(id: string): string {
    const passed = new Set<string>();
    let leaf = id;
    for (let below: string | undefined = id; below !== undefined && !passed.has(below); ) {
      leaf = below;
      passed.add(leaf);
      below = this.#following.get(leaf)?.at(-1);
    }
    return leaf;
  }

  hasFollowers(id: string): boolean {
    return (this.#following.get(id)?.length ?? 0) > 0;
  }

  /** Where it stands: what follows a message that is gone is a beginning. */
  #placeOf({ parentId }: StoredMessage): string | null {
    return parentId !== null && this.#messages.has(parentId) ? parentId : null;
  }

  #follow(message: StoredMessage): void {
    const place = this.#placeOf(message);
    this.#following.set(place, [...(this.#following.get(place) ?? []), message.id].sort());
  }

  #newest(): StoredMessage | undefined {
    const newest = [...this.#messages.keys()].sort().at(-1);
    return newest === undefined ? undefined : this.#messages.get(newest);
  }
}
