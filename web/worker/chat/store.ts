/** Conversations on this device, in IndexedDB. */
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import type { Conversation, Message } from "../ui/types.ts";
import { restoreSettings } from "./settings.ts";

export interface ConversationStore {
  /** False where the browser keeps nothing: conversations then end with the page. */
  readonly lasting: boolean;
  /** The latest used first. */
  list(): Promise<Conversation[]>;
  get(id: string): Promise<Conversation | undefined>;
  put(conversation: Conversation): Promise<void>;
  /** In the order of their positions. */
  messages(id: string): Promise<Message[]>;
  putMessages(messages: readonly Message[]): Promise<void>;
  /** Deletes the messages from `position` on. */
  truncate(id: string, position: number): Promise<void>;
  delete(id: string): Promise<void>;
  /** Called after another tab changed something. */
  onForeignChange(listener: () => void): void;
}

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: [string, number]; value: Message };
}

/** Opens the database, or a store in memory where there is none. */
export async function openStore(name = "mlc-edge-chat"): Promise<ConversationStore> {
  try {
    const database = await openDB<Schema>(name, 1, {
      upgrade(db) {
        db.createObjectStore("conversations", { keyPath: "id" });
        db.createObjectStore("messages", { keyPath: ["conversationId", "position"] });
      },
      blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
    });
    return new IndexedStore(database, name);
  } catch {
    return new MemoryStore();
  }
}

const from = (id: string, position = 0) =>
  IDBKeyRange.bound([id, position], [id, Number.POSITIVE_INFINITY]);

const byUse = (a: Conversation, b: Conversation) => b.updatedAt - a.updatedAt;

class IndexedStore implements ConversationStore {
  readonly lasting = true;
  #db: IDBPDatabase<Schema>;
  #channel: BroadcastChannel;

  constructor(db: IDBPDatabase<Schema>, name: string) {
    this.#db = db;
    this.#channel = new BroadcastChannel(name);
  }

  async list(): Promise<Conversation[]> {
    const all = await this.#db.getAll("conversations");
    return all.map(restored).sort(byUse);
  }

  async get(id: string): Promise<Conversation | undefined> {
    const found = await this.#db.get("conversations", id);
    return found && restored(found);
  }

  async put(conversation: Conversation): Promise<void> {
    await this.#db.put("conversations", conversation);
    this.#channel.postMessage(null);
  }

  messages(id: string): Promise<Message[]> {
    return this.#db.getAll("messages", from(id));
  }

  async putMessages(messages: readonly Message[]): Promise<void> {
    const transaction = this.#db.transaction("messages", "readwrite");
    await Promise.all([...messages.map((m) => transaction.store.put(m)), transaction.done]);
  }

  async truncate(id: string, position: number): Promise<void> {
    await this.#db.delete("messages", from(id, position));
  }

  async delete(id: string): Promise<void> {
    const transaction = this.#db.transaction(["conversations", "messages"], "readwrite");
    await Promise.all([
      transaction.objectStore("conversations").delete(id),
      transaction.objectStore("messages").delete(from(id)),
      transaction.done,
    ]);
    this.#channel.postMessage(null);
  }

  onForeignChange(listener: () => void): void {
    this.#channel.addEventListener("message", listener);
  }
}

function restored(stored: Conversation): Conversation {
  return { ...stored, settings: restoreSettings(stored.settings) };
}

class MemoryStore implements ConversationStore {
  readonly lasting = false;
  #conversations = new Map<string, Conversation>();
  #messages = new Map<string, Message[]>();

  async list(): Promise<Conversation[]> {
    return [...this.#conversations.values()].sort(byUse);
  }

  async get(id: string): Promise<Conversation | undefined> {
    return this.#conversations.get(id);
  }

  async put(conversation: Conversation): Promise<void> {
    this.#conversations.set(conversation.id, { ...conversation });
  }

  async messages(id: string): Promise<Message[]> {
    return [...(this.#messages.get(id) ?? [])];
  }

  async putMessages(messages: readonly Message[]): Promise<void> {
    for (const message of messages) {
      const list = this.#messages.get(message.conversationId) ?? [];
      list[message.position] = { ...message };
      this.#messages.set(message.conversationId, list);
    }
  }

  async truncate(id: string, position: number): Promise<void> {
    this.#messages.get(id)?.splice(position);
  }

  async delete(id: string): Promise<void> {
    this.#conversations.delete(id);
    this.#messages.delete(id);
  }

  onForeignChange(): void {}
}
