/** The conversation on the page: what sending, stopping, redoing and switching do. */
import type { Notices } from "../ui/notices.ts";
import { titleOf } from "../ui/request.ts";
import type { Transcript } from "../ui/transcript.ts";
import type { ChatSettings, Conversation, Message } from "../ui/types.ts";
import { Answering } from "./answering.ts";
import type { ChatEngine } from "./engine.ts";
import type { Models } from "./models.ts";
import { loadDefaults } from "./settings.ts";
import type { ConversationStore } from "./store.ts";

/** An open answer is kept this often, so that a closed page loses little. */
const SAVE_EVERY_MS = 1_000;
/** Longer answers are announced by their beginning. */
const MAX_ANNOUNCED = 1_500;

export interface ChatParts {
  engine: ChatEngine;
  models: Models;
  store: ConversationStore;
  transcript: Transcript;
  notices: Notices;
  /** Called when the conversation, the list or the state of the answer changed. */
  onChange(): void;
}

export class Chat {
  readonly #parts: ChatParts;
  #messages: Message[] = [];
  #answering: Answering | null = null;
  #savedAt = 0;
  conversation: Conversation = draft();
  conversations: Conversation[] = [];

  constructor(parts: ChatParts) {
    this.#parts = parts;
    parts.models.onChange(() => this.#explainWait());
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** "waiting": an answer waits for its model. */
  get activity(): "none" | "waiting" | "writing" {
    if (!this.#answering) return "none";
    return this.#answering.waiting ? "waiting" : "writing";
  }

  /** Opens a stored conversation; an unknown id starts a new one. */
  async open(id: string): Promise<void> {
    if (id === this.conversation.id) return;
    const running = this.#answering?.conversation.id === id ? this.#answering : null;
    const found = running?.conversation ?? (id ? await this.#parts.store.get(id) : undefined);
    this.conversation = found ?? draft();
    this.#messages = running?.messages ?? (found ? await this.#parts.store.messages(id) : []);
    this.#parts.transcript.show(this.#messages, running?.answer.position ?? null);
    this.#explainWait();
    this.#parts.onChange();
  }

  async refreshList(): Promise<void> {
    this.conversations = await this.#parts.store.list();
    this.#parts.onChange();
  }

  /** Adds the user's message and starts the answer; false while another answer is written. */
  send(text: string): boolean {
    if (this.#answering) return false;
    const { conversation } = this;
    if (this.#messages.length === 0 && !conversation.named) conversation.title = titleOf(text);
    const message: Message = {
      conversationId: conversation.id,
      position: (this.#messages.at(-1)?.position ?? -1) + 1,
      role: "user",
      content: text,
      createdAt: Date.now(),
    };
    this.#messages.push(message);
    this.#parts.transcript.append(message);
    if (location.hash !== `#${conversation.id}`) {
      history.replaceState(null, "", `#${conversation.id}`);
    }
    void this.#answer([message]);
    return true;
  }

  stop(): void {
    this.#answering?.stop();
  }

  /** Writes the last answer anew. */
  regenerate(): void {
    const lastUser = this.#messages.findLast(({ role }) => role === "user");
    if (!lastUser || this.#answering) return;
    this.#truncate(lastUser.position + 1);
    void this.#answer([]);
  }

  /** Replaces a message of the user and all that followed it. */
  edit(message: Message, text: string): void {
    if (this.#answering) return;
    this.#truncate(message.position);
    this.send(text);
  }

  async changeSettings(settings: ChatSettings): Promise<void> {
    this.conversation.settings = settings;
    if (this.#messages.length > 0) await this.#keep([]);
  }

  async rename(conversation: Conversation, title: string): Promise<void> {
    const renamed = this.#live(conversation.id) ?? conversation;
    renamed.title = title;
    renamed.named = true;
    await this.#parts.store.put(renamed);
    await this.refreshList();
  }

  /** Deletes a conversation; the returned function brings it back. */
  async remove(conversation: Conversation): Promise<() => Promise<void>> {
    const { store } = this.#parts;
    if (this.#answering?.conversation.id === conversation.id) {
      this.#answering.discarded = true;
      this.#answering.stop();
    }
    const messages = await this.messagesOf(conversation);
    // The list's entry may be older than what was kept since.
    const latest = this.#live(conversation.id) ?? (await store.get(conversation.id)) ?? conversation;
    await store.delete(conversation.id);
    await this.refreshList();
    return async () => {
      await store.put(latest);
      await store.putMessages(messages);
      await this.refreshList();
    };
  }

  async messagesOf(conversation: Conversation): Promise<Message[]> {
    if (this.#answering?.conversation.id === conversation.id) return [...this.#answering.messages];
    return this.#parts.store.messages(conversation.id);
  }

  /** The object that is shown or answered, and kept whenever that changes it. */
  #live(id: string): Conversation | undefined {
    return [this.conversation, this.#answering?.conversation].find((live) => live?.id === id);
  }

  async #answer(unsaved: Message[]): Promise<void> {
    const { engine, models, transcript } = this.#parts;
    const run = new Answering(this.conversation, this.#messages);
    this.#answering = run;
    transcript.append(run.answer);
    transcript.settle(run.answer.position);
    this.#explainWait();
    this.conversation.updatedAt = Date.now();
    await this.#keep([...unsaved, run.answer]);
    await this.refreshList();
    await run.run(engine, models, () => this.#grow(run));
    this.#answering = null;
    if (!run.discarded) await this.#keep([run.answer], run.conversation);
    if (run.conversation.id === this.conversation.id) transcript.settle(null);
    this.#announce(run);
    this.#parts.onChange();
  }

  #grow(run: Answering): void {
    const { answer, conversation } = run;
    if (conversation.id === this.conversation.id) {
      if (answer.content) this.#parts.transcript.grow(answer);
      else this.#parts.transcript.wait(answer, "Thinking …");
    }
    if (answer.content === "") this.#parts.onChange();
    if (run.discarded || Date.now() - this.#savedAt < SAVE_EVERY_MS) return;
    this.#savedAt = Date.now();
    void this.#keep([answer], conversation);
  }

  #explainWait(): void {
    const run = this.#answering;
    if (!run?.waiting || run.conversation.id !== this.conversation.id) return;
    const reasons: Partial<Record<Models["state"]["kind"], string>> = {
      idle: "Load the model below to get the answer.",
      error: "The model isn’t ready; see below.",
    };
    const reason = reasons[this.#parts.models.state.kind] ?? "Waiting for the model …";
    this.#parts.transcript.wait(run.answer, reason);
  }

  #truncate(position: number): void {
    this.#messages = this.#messages.filter((message) => message.position < position);
    this.#parts.transcript.truncate(position);
    void this.#parts.store.truncate(this.conversation.id, position);
  }

  async #keep(messages: Message[], conversation = this.conversation): Promise<void> {
    const { notices, store } = this.#parts;
    try {
      await store.put(conversation);
      await store.putMessages(messages);
    } catch {
      const text = "This conversation can’t be saved: the browser’s storage is full. Export it, or delete others.";
      notices.show("unsaved", { level: "warning", text });
    }
  }

  #announce({ answer }: Answering): void {
    const { content, problem, state } = answer;
    const text = content.length > MAX_ANNOUNCED ? `${content.slice(0, MAX_ANNOUNCED)} … and more.` : content;
    if (problem) this.#parts.notices.announce(`${problem.message} ${problem.remedy}`);
    else if (state === "abort") this.#parts.notices.announce("Stopped.");
    else this.#parts.notices.announce(`Assistant: ${text}`);
  }
}

/** A conversation that is kept from its first message on. */
function draft(): Conversation {
  const now = Date.now();
  return {
    id: [...crypto.getRandomValues(new Uint8Array(9))].map((b) => b.toString(36).padStart(2, "0")).join(""),
    title: "New chat",
    named: false,
    createdAt: now,
    updatedAt: now,
    settings: loadDefaults(),
  };
}
