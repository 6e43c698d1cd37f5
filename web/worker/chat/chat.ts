/** The conversation on the page: what sending, stopping, redoing and switching do. */
import { holdNamed, isHeld, whenFree } from "../shared/presence.ts";
import type { Notices } from "../ui/notices.ts";
import { titleOf } from "../ui/request.ts";
import type { Transcript } from "../ui/transcript.ts";
import type { ChatSettings, Conversation, Message } from "../ui/types.ts";
import { Answering } from "./answering.ts";
import type { Archived } from "./archive.ts";
import type { ChatEngine } from "./engine.ts";
import type { Models } from "./models.ts";
import type { Change, ConversationStore } from "./store.ts";
import { Thread } from "./thread.ts";
import type { StoredMessage } from "./tree.ts";

/** An open answer is kept this often, so that a closed page loses little. */
const SAVE_EVERY_MS = 1_000;
/** Longer answers are announced by their beginning. */
const MAX_ANNOUNCED = 1_500;

/** Held by the tab that writes a message. */
const writingLock = (message: Message): string => `mlc-edge-chat writes ${message.id}`;

export interface ChatParts {
  engine: ChatEngine;
  models: Models;
  store: ConversationStore;
  transcript: Transcript;
  notices: Notices;
  /** Called when the conversation, the list or the state of the answer changed. */
  onChange(): void;
  /** Called when another tab has deleted the conversation that is shown; its last question may wait for an answer. */
  onDeleted(conversation: Conversation, unanswered: string): void;
}

export class Chat {
  readonly #parts: ChatParts;
  #thread: Thread;
  #answering: Answering | null = null;
  /** The conversation that is to be shown, once it is read. */
  #opening = "";
  #savedAt = 0;
  conversations: Conversation[] = [];

  constructor(parts: ChatParts) {
    this.#parts = parts;
    this.#thread = Thread.draft(parts.store);
    parts.models.onChange(() => this.#explainWait());
    parts.store.onForeignChange((change) => void this.#follow(change));
  }

  get conversation(): Conversation {
    return this.#thread.conversation;
  }

  /** The branch that is shown. */
  get messages(): readonly StoredMessage[] {
    return this.#thread.branch;
  }

  /** The conversation whose answer is being written. */
  get answered(): Conversation | null {
    return this.#answering?.thread.conversation ?? null;
  }

  /** "waiting": an answer waits for its model. */
  get activity(): "none" | "waiting" | "writing" {
    if (!this.#answering) return "none";
    return this.#answering.waiting ? "waiting" : "writing";
  }

  /** Opens a stored conversation; an unknown id starts a new one. */
  async open(id: string): Promise<void> {
    if (id === this.conversation.id) return;
    this.#opening = id;
    const found = this.#running(id) ?? (id ? await this.#read(id) : null);
    // Another one was chosen meanwhile.
    if (this.#opening !== id) return;
    this.#thread = found ?? Thread.draft(this.#parts.store);
    this.#parts.transcript.show(this.messages, this.#liveId);
    this.#explainWait();
    this.#parts.onChange();
    void this.#watchOthersAnswer();
  }

  async #read(id: string): Promise<Thread | null> {
    try {
      return await Thread.open(this.#parts.store, id);
    } catch (error) {
      this.#tellUnsaved(error);
      return null;
    }
  }

  async refreshList(): Promise<void> {
    this.conversations = await this.#parts.store.list().catch(() => this.conversations);
    this.#parts.onChange();
  }

  /** Adds the user's message and starts the answer; false while another answer is written. */
  send(text: string): boolean {
    return this.#ask(text, this.messages.at(-1)?.id ?? null);
  }

  stop(): void {
    this.#answering?.stop();
  }

  /** Writes an answer anew, beside what was there. */
  regenerate(answer: Message): void {
    const thread = this.#thread;
    const branch = thread.branchTo(answer);
    const question = branch.findLast(({ role }) => role === "user");
    if (!question || this.#answering) return;
    const before = branch.at(-1);
    if (before && before !== question) void thread.dropEmpty(before).catch((error) => this.#tellUnsaved(error));
    void this.#answer(question);
  }

  /** Asks something else, beside what was asked; false while another answer is written. */
  edit(message: Message, text: string): boolean {
    const stored = this.#thread.branchTo(message).at(-1);
    return stored !== undefined && this.#ask(text, stored.parentId);
  }

  /** Which of how many versions a message is; the first is 1. */
  versions(message: Message): { at: number; of: number } {
    const versions = this.#thread.versions(message);
    return { at: versions.findIndex(({ id }) => id === message.id) + 1, of: versions.length };
  }

  /** Shows the version before (-1) or after (1) this one, with what followed it. */
  showVersion(message: Message, step: 1 | -1): void {
    const versions = this.#thread.versions(message);
    const other = versions[versions.findIndex(({ id }) => id === message.id) + step];
    if (!other || this.#answering?.thread === this.#thread) return;
    this.#thread.show(other);
    this.#parts.transcript.update(this.messages, this.#liveId);
    this.#parts.transcript.focusVersion(other, step);
    void this.#keep(this.#thread);
    void this.#watchOthersAnswer();
  }

  async changeSettings(settings: ChatSettings): Promise<void> {
    this.#thread.change({ settings });
    await this.#keep(this.#thread);
  }

  async rename({ id }: Conversation, title: string): Promise<void> {
    const fields = { title, named: true };
    for (const thread of this.#threads()) if (thread.id === id) thread.change(fields);
    try {
      await this.#parts.store.change(id, fields);
    } catch (error) {
      this.#tellUnsaved(error);
    }
    await this.refreshList();
  }

  /** Deletes a conversation; the returned function brings it back. Null if the browser's storage doesn't work. */
  async remove({ id }: Conversation): Promise<(() => Promise<void>) | null> {
    const { store } = this.#parts;
    try {
      const thread = await this.#threadOf(id);
      const { conversation, messages } = thread?.snapshot() ?? {};
      await thread?.delete();
      this.#discard(id);
      await this.refreshList();
      return async () => {
        if (conversation && messages) await store.create(conversation, messages);
        await this.refreshList();
      };
    } catch (error) {
      this.#tellUnsaved(error);
      return null;
    }
  }

  /** Of the branch that was shown last. */
  async messagesOf({ id }: Conversation): Promise<StoredMessage[]> {
    return (await this.#threadOf(id))?.branch ?? [];
  }

  /** With all branches. */
  async archived(conversations: readonly Conversation[]): Promise<Archived[]> {
    const threads = await Promise.all(conversations.map(({ id }) => this.#threadOf(id)));
    return threads.flatMap((thread) => thread?.snapshot() ?? []);
  }

  /** Adds what isn't there yet. */
  async restore(all: readonly Archived[]): Promise<void> {
    for (const { conversation, messages } of all) await this.#parts.store.add(conversation, messages);
    const shown = all.some(({ conversation }) => conversation.id === this.conversation.id);
    if (shown && (await this.#thread.refresh())) this.#showRefreshed(this.conversation.id);
    await this.refreshList();
  }

  /** Ids of the conversations in whose title or messages these words are. */
  async search(words: string): Promise<Set<string>> {
    const wanted = words.toLocaleLowerCase();
    const has = (text: string) => text.toLocaleLowerCase().includes(wanted);
    const all = await this.archived(this.conversations);
    const found = all.filter(
      ({ conversation, messages }) => has(conversation.title) || messages.some(({ content }) => has(content)),
    );
    return new Set(found.map(({ conversation }) => conversation.id));
  }

  async #threadOf(id: string): Promise<Thread | null> {
    return this.#threads().find((live) => live.id === id) ?? (await Thread.open(this.#parts.store, id));
  }

  /** What is shown, and what is answered. */
  #threads(): Thread[] {
    return [this.#thread, ...(this.#answering ? [this.#answering.thread] : [])];
  }

  #running(id: string): Thread | null {
    return this.#answering?.thread.id === id ? this.#answering.thread : null;
  }

  get #liveId(): string | null {
    return this.#thread.live?.id ?? null;
  }

  #ask(text: string, parentId: string | null): boolean {
    if (this.#answering) return false;
    const { conversation } = this;
    if (parentId === null && !conversation.named) this.#thread.change({ title: titleOf(text) });
    const question = this.#thread.add("user", parentId, { content: text });
    if (location.hash !== `#${conversation.id}`) history.replaceState(null, "", `#${conversation.id}`);
    void this.#answer(question);
    return true;
  }

  async #answer(question: StoredMessage): Promise<void> {
    const { engine, models, transcript } = this.#parts;
    const run = new Answering(this.#thread, question);
    const lock = holdNamed(writingLock(run.answer));
    this.#answering = run;
    transcript.update(this.messages, run.answer.id);
    transcript.toEnd();
    this.#explainWait();
    // What the browser's storage does, and how long it takes, is no answer's business.
    void this.#keep(run.thread).then(() => this.refreshList());
    this.#parts.onChange();
    await run.run(engine, models, () => this.#grow(run));
    if (this.#answering === run) this.#answering = null;
    if (run.thread === this.#thread) transcript.settle(null);
    this.#announce(run);
    this.#parts.onChange();
    await this.#keep(run.thread);
    (await lock)?.release();
  }

  #grow(run: Answering): void {
    const { answer, thread } = run;
    if (thread === this.#thread) {
      if (answer.content) this.#parts.transcript.grow(answer);
      else this.#parts.transcript.wait(answer, "Thinking …");
    }
    if (answer.content === "") this.#parts.onChange();
    if (Date.now() - this.#savedAt < SAVE_EVERY_MS) return;
    this.#savedAt = Date.now();
    thread.touch(answer);
    void this.#keep(thread);
  }

  #explainWait(): void {
    const run = this.#answering;
    if (!run?.waiting || run.thread !== this.#thread) return;
    const reasons: Partial<Record<Models["state"]["kind"], string>> = {
      idle: "Load the model below to get the answer.",
      error: "The model isn’t ready; see below.",
    };
    const reason = reasons[this.#parts.models.state.kind] ?? "Waiting for the model …";
    this.#parts.transcript.wait(run.answer, reason);
  }

  async #follow({ id, kind }: Change): Promise<void> {
    const { conversation } = this;
    const unanswered = this.#running(id) ? this.messages.findLast(({ role }) => role === "user")?.content : "";
    if (kind === "deleted") this.#discard(id);
    await this.refreshList();
    if (id !== this.conversation.id) return;
    if (kind === "deleted") this.#parts.onDeleted(conversation, unanswered ?? "");
    else if (await this.#thread.refresh().catch(() => false)) this.#showRefreshed(conversation.id);
  }

  #showRefreshed(id: string): void {
    if (id !== this.conversation.id) return;
    this.#parts.transcript.update(this.messages, this.#liveId);
    this.#explainWait();
    this.#parts.onChange();
    void this.#watchOthersAnswer();
  }

  /** Shows an answer that another tab writes as one that grows, until it ends. */
  async #watchOthersAnswer(): Promise<void> {
    const thread = this.#thread;
    const last = this.messages.at(-1);
    if (last?.state !== "open" || last.id === this.#liveId) return;
    const name = writingLock(last);
    if (!(await isHeld(name)) || thread !== this.#thread) return;
    this.#parts.transcript.settle(last.id);
    if (last.content === "") this.#parts.transcript.wait(last, "Being written in another tab …");
    await whenFree(name, new AbortController().signal);
    if (thread === this.#thread && (await thread.refresh().catch(() => false))) this.#showRefreshed(thread.id);
  }

  /** Ends an answer of a conversation that is deleted. */
  #discard(id: string): void {
    const run = this.#answering;
    if (run?.thread.id !== id) return;
    run.thread.discard();
    run.stop();
    this.#answering = null;
  }

  async #keep(thread: Thread): Promise<void> {
    try {
      const isThere = await thread.keep();
      if (!isThere) await this.#follow({ id: thread.id, kind: "deleted" });
    } catch (error) {
      this.#tellUnsaved(error);
    }
  }

  #tellUnsaved(error: unknown): void {
    const isFull = error instanceof DOMException && error.name === "QuotaExceededError";
    const text = isFull
      ? "This conversation can’t be saved: the browser’s storage is full. Export it, or delete others."
      : "The browser’s storage doesn’t work now: conversations can’t be read or saved. Export what you need, then reload the page.";
    this.#parts.notices.show("unsaved", { level: "warning", text });
  }

  #announce({ answer }: Answering): void {
    const { content, problem, state } = answer;
    const text = content.length > MAX_ANNOUNCED ? `${content.slice(0, MAX_ANNOUNCED)} … and more.` : content;
    if (problem) this.#parts.notices.announce(`${problem.message} ${problem.remedy}`);
    else if (state === "abort") this.#parts.notices.announce("Stopped.");
    else this.#parts.notices.announce(`Assistant: ${text}`);
  }
}
