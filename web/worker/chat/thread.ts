/** One conversation as the page holds it: its branches, the one that is shown, and what isn't kept yet. */
import { newId } from "../ui/ids.ts";
import type { Conversation, Message } from "../ui/types.ts";
import type { Archived } from "./archive.ts";
import { loadDefaults } from "./settings.ts";
import type { ConversationFields, ConversationStore } from "./store.ts";
import { STRINGS } from "./strings.ts";
import { MessageTree, type StoredMessage } from "./tree.ts";

/** So long an answer waits for what other tabs have made of its conversation. */
const PATIENCE_MS = 1_000;

export class Thread {
  conversation: Conversation;
  /** The answer that this page writes now. */
  live: StoredMessage | null = null;
  readonly #store: ConversationStore;
  #tree: MessageTree;
  /** Whether the store has it: drafts are kept from their first message on, temporary ones once they are wanted. */
  #isKept: boolean;
  #isTemporary = false;
  readonly #unkept = new Map<string, StoredMessage>();
  #fields: ConversationFields = {};
  #isDiscarded = false;
  #keeping: Promise<unknown> = Promise.resolve();

  private constructor(store: ConversationStore, conversation: Conversation, messages: StoredMessage[], isKept: boolean) {
    this.#store = store;
    this.conversation = conversation;
    this.#tree = new MessageTree(messages);
    this.#isKept = isKept;
  }

  static draft(store: ConversationStore): Thread {
    const now = Date.now();
    const common = { id: newId(), title: STRINGS.newChat, named: false, leafId: null };
    const conversation = { ...common, createdAt: now, updatedAt: now, settings: loadDefaults(), pinned: false };
    return new Thread(store, conversation, [], false);
  }

  /** A conversation of which nothing is kept: an empty one, or this one. */
  static temporary(store: ConversationStore, shown?: Archived): Thread {
    const thread = shown ? new Thread(store, shown.conversation, shown.messages, false) : Thread.draft(store);
    thread.#isTemporary = true;
    return thread;
  }

  /** Null for an unknown id. */
  static async open(store: ConversationStore, id: string): Promise<Thread | null> {
    const conversation = await store.get(id);
    return conversation ? new Thread(store, conversation, await store.messages(id), true) : null;
  }

  get id(): string {
    return this.conversation.id;
  }

  get isEmpty(): boolean {
    return this.#tree.size === 0;
  }

  get isTemporary(): boolean {
    return this.#isTemporary;
  }

  /** Has what is there, and what comes, kept as of any other conversation. */
  makeLasting(): void {
    this.#isTemporary = false;
  }

  /** The messages that are shown, oldest first. */
  get branch(): StoredMessage[] {
    return this.#tree.branch(this.conversation.leafId);
  }

  /** The messages down to this one. */
  branchTo({ id }: Message): StoredMessage[] {
    return this.#tree.branch(id);
  }

  versions(message: Message): StoredMessage[] {
    const stored = this.#tree.get(message.id);
    return stored ? this.#tree.versions(stored) : [];
  }

  /** Adds a message below another and shows it. */
  add(role: Message["role"], parentId: string | null, fields: Partial<Message> = {}): StoredMessage {
    const message = { content: "", ...fields, id: newId(), role, parentId, conversationId: this.id, createdAt: Date.now() };
    this.#tree.put(message);
    this.#unkept.set(message.id, message);
    this.change({ leafId: message.id, updatedAt: message.createdAt });
    return message;
  }

  /** Shows the branch on which this message is. */
  show(message: Message): void {
    this.change({ leafId: this.#tree.leafBelow(message.id) });
  }

  change(fields: ConversationFields): void {
    this.conversation = { ...this.conversation, ...fields };
    this.#fields = { ...this.#fields, ...fields };
  }

  /** Called after a message was changed in place. */
  touch(message: StoredMessage): void {
    this.#unkept.set(message.id, message);
  }

  /** Takes an answer away that has no word and that nothing follows: there is nothing to come back to. */
  async dropEmpty(message: StoredMessage): Promise<void> {
    if (message.content !== "" || message.thinking || this.#tree.hasFollowers(message.id)) return;
    this.#tree.remove(message);
    this.#unkept.delete(message.id);
    this.change({ leafId: message.parentId });
    await this.#inTurn(async () => {
      if (this.#isKept) await this.#store.deleteMessage(this.id, message.id);
    });
  }

  /** Keeps what isn't kept yet; false if another tab has deleted the conversation. Rejects if the browser can't. */
  keep(): Promise<boolean> {
    return this.#inTurn(() => this.#keep());
  }

  /** What the store is asked for doesn't overtake what it was asked for before. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#keeping.then(work);
    this.#keeping = done.catch(() => undefined);
    return done;
  }

  async #keep(): Promise<boolean> {
    if (this.isEmpty || this.#isTemporary || this.#isDiscarded) return true;
    const messages = [...this.#unkept.values()];
    const fields = this.#fields;
    this.#unkept.clear();
    this.#fields = {};
    try {
      if (this.#isKept) return await this.#store.change(this.id, fields, messages);
      await this.#store.create(this.conversation, this.#tree.values());
      this.#isKept = true;
      return true;
    } catch (error) {
      for (const message of messages) this.#unkept.set(message.id, message);
      this.#fields = { ...fields, ...this.#fields };
      throw error;
    }
  }

  /** Takes over what another tab has kept, but for what this page knows better; false if it was deleted. */
  refresh(): Promise<boolean> {
    return this.#inTurn(() => this.#refresh());
  }

  /** As `refresh`, for who has something to do: a store that is slow, or fails, isn't waited for. */
  async refreshSoon(): Promise<void> {
    const patience = new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
    await Promise.race([this.refresh().catch(() => false), patience]);
  }

  async #refresh(): Promise<boolean> {
    if (!this.#isKept) return true;
    const [conversation, messages] = await Promise.all([this.#store.get(this.id), this.#store.messages(this.id)]);
    if (!conversation) return false;
    const shown = this.conversation.leafId;
    const tree = new MessageTree(messages);
    for (const message of [...this.#unkept.values(), ...(this.live ? [this.live] : [])]) tree.put(message);
    this.#tree = tree;
    // Each tab shows its own branch, and on it what comes next.
    const leafId = shown === null || !tree.get(shown) ? conversation.leafId : tree.leafBelow(shown);
    this.conversation = { ...conversation, ...this.#fields, leafId };
    return true;
  }

  delete(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#store.delete(this.id);
      this.discard();
    });
  }

  get isDiscarded(): boolean {
    return this.#isDiscarded;
  }

  /** Keeps nothing more: the conversation is deleted. */
  discard(): void {
    this.#isDiscarded = true;
  }

  /** All branches, as they are now. */
  snapshot(): Archived {
    return { conversation: this.conversation, messages: this.#tree.values() };
  }
}
