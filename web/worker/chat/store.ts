/** Conversations on this device, in IndexedDB. */
import { type DBSchema, type IDBPDatabase, type IDBPTransaction, openDB } from "idb";
import type { Conversation } from "../ui/types.ts";
import { restoreSettings } from "./settings.ts";
import type { StoredMessage } from "./tree.ts";

/** What another tab did to a conversation. */
export interface Change {
  id: string;
  kind: "changed" | "deleted";
}

export type ConversationFields = Partial<Omit<Conversation, "id">>;

export interface ConversationStore {
  /** Why conversations end with the page: the browser keeps nothing, or another tab has what is kept. Null if they don't. */
  readonly ephemeral: "unavailable" | "blocked" | null;
  /** The latest used first. */
  list(): Promise<Conversation[]>;
  get(id: string): Promise<Conversation | undefined>;
  /** Of all branches; the oldest first. */
  messages(id: string): Promise<StoredMessage[]>;
  /** Keeps a conversation that isn't kept yet. */
  create(conversation: Conversation, messages: readonly StoredMessage[]): Promise<void>;
  /** Changes these fields and keeps these messages; false if it was deleted meanwhile. */
  change(id: string, fields: ConversationFields, messages?: readonly StoredMessage[]): Promise<boolean>;
  /** Deletes a message unless another one follows it. */
  deleteMessage(id: string, messageId: string): Promise<void>;
  delete(id: string): Promise<void>;
  onForeignChange(listener: (change: Change) => void): void;
}

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: [string, string]; value: StoredMessage };
}

const STORES = ["conversations", "messages"] as const;
const VERSION = 2;
const PATIENCE_MS = 3_000;

/** Opens the database, or a store in memory where there is none. */
export async function openStore(name = "mlc-edge-chat"): Promise<ConversationStore> {
  const connection = new Connection(name);
  // Where there is no IndexedDB at all, opening throws.
  const opened = (async () => connection.open())().then(
    () => new IndexedStore(connection, name),
    () => new MemoryStore("unavailable"),
  );
  return Promise.race([opened, connection.blocked.then(() => new MemoryStore("blocked"))]);
}

/** A database that is opened again after the browser closed it, as phones do to pages in the background. */
class Connection {
  readonly #name: string;
  #opened: Promise<IDBPDatabase<Schema>> | null = null;
  #tellBlocked = (): void => undefined;
  /** Resolves if a tab with an earlier version of the page has been in the way for some seconds. */
  readonly blocked = new Promise<void>((resolve) => {
    this.#tellBlocked = resolve;
  });

  constructor(name: string) {
    this.#name = name;
  }

  open(): Promise<IDBPDatabase<Schema>> {
    this.#opened ??= openDB<Schema>(this.#name, VERSION, {
      upgrade,
      blocked: () => setTimeout(this.#tellBlocked, PATIENCE_MS),
      blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
      terminated: () => this.#forget(),
    });
    this.#opened.catch(() => this.#forget());
    return this.#opened;
  }

  /** Runs `work`, once more if the connection turns out to be closed. */
  async use<T>(work: (db: IDBPDatabase<Schema>) => Promise<T>): Promise<T> {
    try {
      return await work(await this.open());
    } catch (error) {
      if (!isLost(error)) throw error;
      this.#forget();
      return work(await this.open());
    }
  }

  #forget(): void {
    this.#opened = null;
  }
}

function isLost(error: unknown): boolean {
  return error instanceof DOMException && ["AbortError", "InvalidStateError", "UnknownError"].includes(error.name);
}

async function upgrade(
  db: IDBPDatabase<Schema>,
  before: number,
  _after: number | null,
  transaction: IDBPTransaction<Schema, (typeof STORES)[number][], "versionchange">,
): Promise<void> {
  const positioned = before === 1 ? await transaction.objectStore("messages").getAll() : [];
  if (before < 1) db.createObjectStore("conversations", { keyPath: "id" });
  else db.deleteObjectStore("messages");
  const messages = db.createObjectStore("messages", { keyPath: ["conversationId", "id"] });
  for (const message of positioned) await messages.put(chained(message as unknown as PositionedMessage));
}

/** As version 1 had them. */
interface PositionedMessage extends Omit<StoredMessage, "id" | "parentId"> {
  position: number;
}

function chained({ position, ...message }: PositionedMessage): StoredMessage {
  const idAt = (at: number): string => `0${String(at).padStart(8, "0")}`;
  return { ...message, id: idAt(position), parentId: position === 0 ? null : idAt(position - 1) };
}

const messagesOf = (id: string) => IDBKeyRange.bound([id], [id, []]);

const byUse = (a: Conversation, b: Conversation) => b.updatedAt - a.updatedAt;

class IndexedStore implements ConversationStore {
  readonly ephemeral = null;
  readonly #connection: Connection;
  readonly #channel: BroadcastChannel;

  constructor(connection: Connection, name: string) {
    this.#connection = connection;
    this.#channel = new BroadcastChannel(name);
  }

  async list(): Promise<Conversation[]> {
    const all = await this.#connection.use((db) => db.getAll("conversations"));
    return all.map(restored).sort(byUse);
  }

  async get(id: string): Promise<Conversation | undefined> {
    const found = await this.#connection.use((db) => db.get("conversations", id));
    return found && restored(found);
  }

  messages(id: string): Promise<StoredMessage[]> {
    return this.#connection.use((db) => db.getAll("messages", messagesOf(id)));
  }

  async create(conversation: Conversation, messages: readonly StoredMessage[]): Promise<void> {
    await this.#connection.use(async (db) => {
      const transaction = db.transaction(STORES, "readwrite");
      await Promise.all([
        transaction.objectStore("conversations").put(conversation),
        ...messages.map((message) => transaction.objectStore("messages").put(message)),
        transaction.done,
      ]);
    });
    this.#tell({ id: conversation.id, kind: "changed" });
  }

  async change(id: string, fields: ConversationFields, messages: readonly StoredMessage[] = []): Promise<boolean> {
    const isThere = await this.#connection.use(async (db) => {
      const transaction = db.transaction(STORES, "readwrite");
      const conversations = transaction.objectStore("conversations");
      const latest = await conversations.get(id);
      const writes = latest
        ? [
            conversations.put(changed(latest, fields)),
            ...messages.map((message) => transaction.objectStore("messages").put(message)),
          ]
        : [];
      await Promise.all([...writes, transaction.done]);
      return latest !== undefined;
    });
    if (isThere) this.#tell({ id, kind: "changed" });
    return isThere;
  }

  async deleteMessage(id: string, messageId: string): Promise<void> {
    await this.#connection.use(async (db) => {
      const transaction = db.transaction("messages", "readwrite");
      const all = await transaction.store.getAll(messagesOf(id));
      const isFollowed = all.some(({ parentId }) => parentId === messageId);
      await Promise.all([...(isFollowed ? [] : [transaction.store.delete([id, messageId])]), transaction.done]);
    });
    this.#tell({ id, kind: "changed" });
  }

  async delete(id: string): Promise<void> {
    await this.#connection.use(async (db) => {
      const transaction = db.transaction(STORES, "readwrite");
      await Promise.all([
        transaction.objectStore("conversations").delete(id),
        transaction.objectStore("messages").delete(messagesOf(id)),
        transaction.done,
      ]);
    });
    this.#tell({ id, kind: "deleted" });
  }

  onForeignChange(listener: (change: Change) => void): void {
    this.#channel.addEventListener("message", ({ data }) => listener(data as Change));
  }

  #tell(change: Change): void {
    this.#channel.postMessage(change);
  }
}

/** A title that a person chose stays, whatever a tab that missed it makes of what was said. */
function changed(latest: Conversation, fields: ConversationFields): Conversation {
  const title = latest.named && !fields.named ? latest.title : (fields.title ?? latest.title);
  return { ...latest, ...fields, title };
}

function restored(stored: Conversation): Conversation {
  return { ...stored, pinned: stored.pinned === true, leafId: stored.leafId ?? null, settings: restoreSettings(stored.settings) };
}

class MemoryStore implements ConversationStore {
  readonly ephemeral: "unavailable" | "blocked";
  #conversations = new Map<string, Conversation>();
  #messages = new Map<string, Map<string, StoredMessage>>();

  constructor(ephemeral: "unavailable" | "blocked") {
    this.ephemeral = ephemeral;
  }

  async list(): Promise<Conversation[]> {
    return [...this.#conversations.values()].sort(byUse);
  }

  async get(id: string): Promise<Conversation | undefined> {
    return this.#conversations.get(id);
  }

  async messages(id: string): Promise<StoredMessage[]> {
    return [...(this.#messages.get(id)?.values() ?? [])];
  }

  async create(conversation: Conversation, messages: readonly StoredMessage[]): Promise<void> {
    this.#conversations.set(conversation.id, conversation);
    this.#messages.set(conversation.id, new Map());
    await this.change(conversation.id, {}, messages);
  }

  async change(id: string, fields: ConversationFields, messages: readonly StoredMessage[] = []): Promise<boolean> {
    const latest = this.#conversations.get(id);
    if (!latest) return false;
    this.#conversations.set(id, changed(latest, fields));
    for (const message of messages) this.#messages.get(id)?.set(message.id, { ...message });
    return true;
  }

  async deleteMessage(id: string, messageId: string): Promise<void> {
    this.#messages.get(id)?.delete(messageId);
  }

  async delete(id: string): Promise<void> {
    this.#conversations.delete(id);
    this.#messages.delete(id);
  }

  onForeignChange(): void {}
}
