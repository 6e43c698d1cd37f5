/** The conversation on the page: what sending, stopping, redoing and switching do. */
import { holdNamed, isHeld, whenFree } from "../shared/presence.ts";
import type { ChatEngine } from "../ui/engine.ts";
import type { Notices } from "../ui/notices.ts";
import { isCutShort, titleOf } from "../ui/request.ts";
import { filled } from "../ui/strings.ts";
import type { Transcript } from "../ui/transcript.ts";
import type { ChatSettings, Conversation, Message } from "../ui/types.ts";
import { nameInAddress } from "./address.ts";
import { announcementOf } from "./announcement.ts";
import { Answering, writingLock } from "./answering.ts";
import type { Archived } from "./archive.ts";
import { Library } from "./library.ts";
import type { Models } from "./models.ts";
import { paced } from "./paced.ts";
import type { Change, ConversationStore } from "./store.ts";
import { STRINGS } from "./strings.ts";
import { Thread } from "./thread.ts";
import { Titles } from "./titles.ts";
import type { StoredMessage } from "./tree.ts";

/** An open answer is kept this often, so that a closed page loses little. */
const SAVE_EVERY_MS = 500;

export interface ChatParts {
  engine: ChatEngine;
  models: Models;
  store: ConversationStore;
  transcript: Transcript;
  notices: Notices;
  /** Called when the conversation, the list or the answer's state changed. */
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
  readonly #growth = paced(() => this.#saveGrowth(), SAVE_EVERY_MS);
  /** The answer that another tab writes, and those that others see as written: until they are kept. */
  #watched: string | null = null;
  readonly #unkept = new Set<Answering>();
  readonly library: Library;
  readonly #titles: Titles;

  constructor(parts: ChatParts) {
    this.#parts = parts;
    this.#thread = Thread.draft(parts.store);
    this.library = new Library({
      store: parts.store,
      held: () => this.#threads(),
      onChange: parts.onChange,
      onFailure: (error) => this.#tellUnsaved(error),
    });
    this.#titles = new Titles(parts.engine, parts.models, (thread) => void this.#retitle(thread));
    parts.models.onChange(() => this.#explainWait());
    // What isn't seen may be closed without a word.
    document.addEventListener("visibilitychange", () => document.hidden && this.#growth.now());
    parts.store.onForeignChange((change) => void this.#follow(change));
  }

  get conversation(): Conversation {
    return this.#thread.conversation;
  }

  /** The branch that is shown. */
  get messages(): readonly StoredMessage[] {
    return this.#thread.branch;
  }

  /** Whether nothing was asked yet. */
  get isEmpty(): boolean {
    return this.#thread.isEmpty;
  }

  /** Whether nothing of what is shown is kept. */
  get isTemporary(): boolean {
    return this.#thread.isTemporary;
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
    this.#opening = id;
    if (id === this.conversation.id) return;
    const found = this.#running(id) ?? (id ? await this.#read(id) : null);
    // Another one was chosen meanwhile.
    if (this.#opening !== id) return;
    this.#enter(found ?? Thread.draft(this.#parts.store));
  }

  /** Shows a conversation that ends when it is left: an empty one, or this one. */
  openTemporary(shown?: Archived): void {
    const thread = Thread.temporary(this.#parts.store, shown);
    this.#opening = thread.id;
    this.#enter(thread);
  }

  #enter(thread: Thread): void {
    this.#titles.cancel();
    if (this.isTemporary) this.#discard(this.conversation.id);
    this.#thread = thread;
    this.#parts.transcript.show(this.messages, this.#liveId);
    this.#explainWait();
    this.#parts.onChange();
    void this.#watchOthersAnswer();
  }

  /** Makes the temporary conversation that is shown one like others; false where the browser doesn't keep it. */
  async makeLasting(): Promise<boolean> {
    const thread = this.#thread;
    thread.makeLasting();
    nameInAddress(this.isEmpty ? "" : thread.id);
    this.#parts.onChange();
    const isKept = await this.#keep(thread);
    await this.library.refresh();
    return isKept && this.#parts.store.ephemeral === null;
  }

  async #read(id: string): Promise<Thread | null> {
    try {
      return await Thread.open(this.#parts.store, id);
    } catch (error) {
      this.#tellUnsaved(error);
      return null;
    }
  }

  /** Whether the last answer that is shown is being written by another tab, which lets go of it somewhat after its end. */
  get isWrittenElsewhere(): boolean {
    const last = this.messages.at(-1);
    return last?.state === "open" && last.id === this.#watched;
  }

  /** Adds the user's message and starts the answer; false while another answer is written. */
  send(text: string): boolean {
    return !this.isWrittenElsewhere && this.#ask(text, this.messages.at(-1)?.id ?? null);
  }

  stop(): void {
    this.#titles.cancel();
    this.#answering?.stop();
  }

  /** Writes an answer anew, beside what was there; false while another answer is written. */
  regenerate(answer: Message): boolean {
    if (this.#answering) return false;
    const thread = this.#thread;
    const branch = thread.branchTo(answer);
    const question = branch.findLast(({ role }) => role === "user");
    if (!question) return true;
    const before = branch.at(-1);
    if (before && before !== question) void thread.dropEmpty(before).catch((error) => this.#tellUnsaved(error));
    void this.#write(Answering.of(thread, question));
    return true;
  }

  /** Goes on where the last answer broke off; false while another answer is written. */
  async goOn({ id }: Message): Promise<boolean> {
    if (this.#answering) return false;
    const thread = this.#thread;
    // What another tab has added by now is gone on from, and not taken back.
    await thread.refreshSoon();
    const last = this.messages.at(-1);
    const isOwn = [...this.#unkept].some(({ answer }) => answer.id === id);
    const isElsewhere = !isOwn && (await isHeld(writingLock({ id })));
    const isFree = last?.id === id && isCutShort(last) && !isElsewhere;
    if (thread !== this.#thread || this.#answering) return true;
    if (isFree) void this.#write(Answering.on(thread, last));
    else this.#showRefreshed(thread.id);
    return true;
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

  /** Deletes a conversation; the returned function brings it back. Null if the browser's storage doesn't work. */
  async remove({ id }: Conversation): Promise<(() => Promise<void>) | null> {
    try {
      const thread = await this.library.thread(id);
      const { conversation, messages } = thread?.snapshot() ?? {};
      await thread?.delete();
      this.#discard(id);
      await this.library.refresh();
      return async () => {
        if (conversation && messages) await this.#parts.store.create(conversation, messages);
        await this.library.refresh();
      };
    } catch (error) {
      this.#tellUnsaved(error);
      return null;
    }
  }

  /** Takes conversations over that aren't there yet. */
  async restore(all: readonly Archived[]): Promise<void> {
    await this.library.add(all);
    if (all.some(({ conversation: { id } }) => id === this.conversation.id)) await this.#follow({ id: this.conversation.id, kind: "changed" });
    else await this.library.refresh();
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
    void this.#write(Answering.of(this.#thread, question));
    return true;
  }

  async #write(run: Answering): Promise<void> {
    const { engine, models, transcript } = this.#parts;
    this.#titles.cancel();
    // Who acts on what is shown stays there.
    this.#opening = run.thread.id;
    if (!this.isTemporary) nameInAddress(run.thread.id);
    const lock = holdNamed(writingLock(run.answer));
    this.#answering = run;
    this.#unkept.add(run);
    transcript.update(this.messages, run.answer.id);
    transcript.toEnd();
    this.#explainWait();
    // What the browser's storage does, and how long it takes, is no answer's business.
    void this.#keep(run.thread).then(() => this.library.refresh(run.thread.id));
    this.#parts.onChange();
    await run.run(engine, models, () => this.#grow(run));
    if (this.#answering === run) this.#answering = null;
    // Whatever shows it, it is kept.
    const kept = this.#keep(run.thread).then(() => void lock.then((held) => held?.release()));
    if (run.thread === this.#thread) transcript.settle(null);
    this.#announce(run);
    this.#parts.onChange();
    if (run.thread === this.#thread && !this.#answering) void this.#titles.consider(run.thread);
    await kept;
    this.#unkept.delete(run);
    this.library.forgetWords(run.thread.id);
  }

  async #retitle(thread: Thread): Promise<void> {
    await this.#keep(thread);
    // A name that somebody chose in another tab is still there.
    await thread.refresh().catch(() => false);
    await this.library.refresh(thread.id);
  }

  #grow(run: Answering): void {
    const { answer, thread } = run;
    if (thread === this.#thread) {
      if (run.hasBegun) this.#parts.transcript.grow(answer);
      else this.#parts.transcript.wait(answer, STRINGS.thinking);
    }
    if (!run.hasBegun) this.#parts.onChange();
    this.#growth.soon();
  }

  #saveGrowth(): void {
    const run = this.#answering;
    if (!run) return;
    run.thread.touch(run.answer);
    void this.#keep(run.thread);
  }

  #explainWait(): void {
    const run = this.#answering;
    if (!run?.waiting || run.thread !== this.#thread) return;
    const reasons: Partial<Record<Models["state"]["kind"], string>> = {
      idle: STRINGS.waitsForLoad,
      error: STRINGS.waitsForMending,
    };
    const reason = reasons[this.#parts.models.state.kind] ?? STRINGS.waiting;
    this.#parts.transcript.wait(run.answer, reason);
  }

  async #follow({ id, kind }: Change): Promise<void> {
    const { conversation } = this;
    const unanswered = this.#running(id) ? this.messages.findLast(({ role }) => role === "user")?.content : "";
    if (kind === "deleted") this.#discard(id);
    await this.library.refresh(id);
    if (id !== this.conversation.id) return;
    if (kind === "deleted") this.#parts.onDeleted(conversation, unanswered ?? "");
    else if (await this.#thread.refresh().catch(() => false)) this.#showRefreshed(conversation.id);
  }

  #showRefreshed(id: string): void {
    if (id !== this.conversation.id) return;
    this.#parts.transcript.update(this.messages, this.#liveId ?? (this.isWrittenElsewhere ? this.#watched : null));
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
    if (last.content === "") this.#parts.transcript.wait(last, STRINGS.writtenElsewhere);
    if (this.#watched === last.id) return;
    this.#watched = last.id;
    await whenFree(name, new AbortController().signal);
    if (this.#watched === last.id) this.#watched = null;
    // It may have been left and opened again meanwhile.
    const shown = this.#thread;
    if (shown.id === thread.id && (await shown.refresh().catch(() => false))) this.#showRefreshed(thread.id);
  }

  /** Ends an answer of a conversation that is deleted. */
  #discard(id: string): void {
    const run = this.#answering;
    if (run?.thread.id !== id) return;
    run.thread.discard();
    run.stop();
    this.#answering = null;
  }

  /** False if it isn't kept. */
  async #keep(thread: Thread): Promise<boolean> {
    try {
      const isThere = await thread.keep();
      this.#parts.notices.hide("unsaved");
      if (!isThere) await this.#follow({ id: thread.id, kind: "deleted" });
      return isThere;
    } catch (error) {
      this.#tellUnsaved(error);
      return false;
    }
  }

  #tellUnsaved(error: unknown): void {
    const isFull = error instanceof DOMException && error.name === "QuotaExceededError";
    const text = isFull ? STRINGS.storageFull : STRINGS.storageBroken;
    this.#parts.notices.show("unsaved", { level: "warning", text });
  }

  #announce(run: Answering): void {
    const { notices, transcript } = this.#parts;
    const { conversation } = run.thread;
    if (run.thread === this.#thread) notices.announce(announcementOf(run, transcript.textOf(run.answer)));
    else if (!run.thread.isDiscarded) {
      const show = { text: STRINGS.show, run: () => void (location.hash = conversation.id) };
      notices.toast(filled(STRINGS.answeredElsewhere, { title: conversation.title }), show);
    }
  }
}
