/** All conversations that are kept: their list, and what people do with those in it. */
import type { Conversation } from "../ui/types.ts";
import type { Archived } from "./archive.ts";
import type { ConversationFields, ConversationStore } from "./store.ts";
import { Thread } from "./thread.ts";
import type { StoredMessage } from "./tree.ts";

interface LibraryParts {
  store: ConversationStore;
  /** What the page holds, which may know better than the store. */
  held(): Thread[];
  onChange(): void;
  onFailure(error: unknown): void;
}

export class Library {
  readonly #parts: LibraryParts;
  conversations: Conversation[] = [];
  /** What a search looks through, by conversation; read once, until that one changes. */
  readonly #words = new Map<string, Promise<string>>();

  constructor(parts: LibraryParts) {
    this.#parts = parts;
  }

  /** @param changed the conversation that has changed. */
  async refresh(changed?: string): Promise<void> {
    if (changed !== undefined) this.forgetWords(changed);
    this.conversations = await this.#parts.store.list().catch(() => this.conversations);
    this.#parts.onChange();
  }

  rename(conversation: Conversation, title: string): Promise<void> {
    return this.#change(conversation, { title, named: true });
  }

  pin(conversation: Conversation, pinned: boolean): Promise<void> {
    return this.#change(conversation, { pinned });
  }

  async #change({ id }: Conversation, fields: ConversationFields): Promise<void> {
    const held = this.#parts.held().find((thread) => thread.id === id);
    held?.change(fields);
    try {
      // What is written at once can't take back later what another tab has done meanwhile.
      await (held?.keep() ?? this.#parts.store.change(id, fields));
    } catch (error) {
      this.#parts.onFailure(error);
    }
    await this.refresh(id);
  }

  /** Null for an unknown id. */
  async thread(id: string): Promise<Thread | null> {
    return this.#parts.held().find((held) => held.id === id) ?? (await Thread.open(this.#parts.store, id));
  }

  /** Of the branch that was shown last. */
  async messagesOf({ id }: Conversation): Promise<StoredMessage[]> {
    return (await this.thread(id))?.branch ?? [];
  }

  /** With all branches. */
  async archived(conversations: readonly Conversation[]): Promise<Archived[]> {
    const threads = await Promise.all(conversations.map(({ id }) => this.thread(id)));
    return threads.flatMap((thread) => thread?.snapshot() ?? []);
  }

  /** Adds what isn't there yet. */
  async add(all: readonly Archived[]): Promise<void> {
    const { store } = this.#parts;
    for (const { conversation, messages } of all) {
      const { id } = conversation;
      const known = new Set((await store.messages(id)).map((message) => message.id));
      const others = messages.filter((message) => !known.has(message.id));
      if (!(await store.change(id, {}, others))) await store.create(conversation, messages);
      this.forgetWords(id);
    }
  }

  /** Ids of the conversations in whose title or messages these words are. */
  async search(words: string): Promise<Set<string>> {
    const wanted = words.toLocaleLowerCase();
    const found = await Promise.all(this.conversations.map(async ({ id }) => ((await this.#wordsOf(id)).includes(wanted) ? id : null)));
    return new Set(found.filter((id) => id !== null));
  }

  #wordsOf(id: string): Promise<string> {
    const known = this.#words.get(id);
    if (known) return known;
    const words = this.thread(id).then((thread) => (thread ? wordsOf(thread) : ""));
    this.#words.set(id, words);
    // What couldn't be read is read again.
    words.catch(() => this.forgetWords(id));
    return words;
  }

  /** Called after an answer has changed, which leaves the list as it is. */
  forgetWords(id: string): void {
    this.#words.delete(id);
  }
}

/** What stands in one message isn't found across two: no search has this character. */
const BETWEEN = "\u0000";

const wordsOf = ({ conversation: { title }, branch }: Thread): string =>
  [title, ...branch.map(({ content }) => content)].join(BETWEEN).toLocaleLowerCase();
