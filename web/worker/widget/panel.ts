/** The open widget. The element loads this when it is opened, and nothing before. */
import type { EngineEvent } from "../shared/protocol.ts";
import { Composer } from "../ui/composer.ts";
import { button, byId, el } from "../ui/dom.ts";
import { formatBytes } from "../ui/format.ts";
import { MarkdownView } from "../ui/markdown.ts";
import { Notices } from "../ui/notices.ts";
import { filled } from "../ui/strings.ts";
import { copyText, Transcript } from "../ui/transcript.ts";
import type { Message } from "../ui/types.ts";
import type { BackendState } from "./backends.ts";
import { Card } from "./card.ts";
import { Conversation } from "./conversation.ts";
import { Keeping } from "./keeping.ts";
import { markup } from "./markup.ts";
import { readable } from "./problem-text.ts";
import { Session } from "./session.ts";
import { PANEL_SHEETS } from "./sheets.ts";
import { STRINGS } from "./strings/index.ts";
import type { Language } from "./strings/launcher.ts";
import type { WidgetStrings } from "./strings/table.ts";
import type { DeviceFit, Dispatch, Draft, GivenEngine, WidgetOptions, WidgetState } from "./types.ts";

/** Longer answers are announced by their beginning. */
const MAX_ANNOUNCED = 1_500;
/** An answer that grows is kept as often. */
const KEEP_MS = 1_000;

/** What the element gives to its panel. */
export interface PanelHost {
  readonly root: ShadowRoot;
  readonly frame: HTMLElement;
  readonly language: Language;
  readonly strings: Partial<WidgetStrings>;
  readonly floating: boolean;
  readonly engine: GivenEngine | null;
  /** In the place of what was kept; null for that. */
  readonly messages: readonly Message[] | null;
  readonly draft: Draft;
  options(): WidgetOptions;
  dispatch: Dispatch;
  close(): void;
}

export class Panel {
  readonly conversation: Conversation;
  readonly session: Session;
  readonly #host: PanelHost;
  readonly #strings: WidgetStrings;
  readonly #card: Card;
  readonly #composer: Composer;
  readonly #notices: Notices;
  readonly #transcript: Transcript;
  readonly #ended = new AbortController();
  #keeping: Keeping;
  #keepTimer = 0;
  #told = "";
  #state: WidgetState = "closed";
  #fullTold = false;
  #missingBytes = 0;

  constructor(host: PanelHost) {
    this.#host = host;
    this.#strings = { ...STRINGS[host.language], ...host.strings };
    const { root, frame } = host;
    const strings = this.#strings;
    root.adoptedStyleSheets = [...new Set([...root.adoptedStyleSheets, ...PANEL_SHEETS])];
    frame.replaceChildren(
      ...markup(strings, host.floating, { clear: () => this.clear(), close: () => host.close() }),
    );
    this.#notices = new Notices(root, strings, () => this.focus());
    this.#transcript = new Transcript(
      root,
      strings,
      this.#messageActions(),
      (target) => new MarkdownView(target, strings),
    );
    this.#composer = new Composer(root, {
      send: (text) => this.#send(text),
      stop: () => this.conversation.stop(),
    });
    this.#composer.text = host.draft.text;
    this.#card = new Card(root, strings, host.language, {
      load: () => this.#load(),
      pause: () => this.session.pause(),
      cancel: () => this.session.cancel(),
      retry: () => void this.session.start(),
      agree: () => this.#agree(),
      leave: () => this.#focusMessageBox(),
    });
    this.conversation = this.#converse();
    this.session = new Session(host.options(), host.engine, {
      onChange: () => this.#sessionChanged(),
      onEvent: (event) => this.#tellEvent(event),
      hasText: () => this.conversation.messages.length > 0 || this.#composer.text.trim() !== "",
    });
    this.renderStarters();
    this.#keeping = this.#keepingAt();
    this.conversation.replace(host.messages ?? this.#keeping.read());
    window.addEventListener("pagehide", () => this.#keep(), { signal: this.#ended.signal });
    window.addEventListener("online", () => this.#retryOnline(), { signal: this.#ended.signal });
    document.addEventListener("visibilitychange", () => this.session.revise(), { signal: this.#ended.signal });
    void this.session.start();
    this.#sessionChanged();
    const { activeElement, body } = document;
    // A person may have gone on elsewhere while this was loaded.
    if (host.draft.isFocused && (activeElement === body || activeElement === root.host)) this.#composer.focus();
  }

  /** What is typed and not sent. */
  get draft(): string {
    return this.#composer.text;
  }

  get state(): WidgetState {
    return this.#state;
  }

  /** Where a person goes on: what must be decided, else the message box. */
  focus(options?: FocusOptions): void {
    if (!this.#card.focus()) this.#focusMessageBox(options);
  }

  #focusMessageBox(options?: FocusOptions): void {
    // On a phone the message box brings a keyboard over what there is to read.
    if (matchMedia("(hover: hover)").matches) byId("message", HTMLTextAreaElement, this.#host.root).focus(options);
    else this.#host.frame.focus(options);
  }

  clear(): void {
    this.#keeping.clear();
    this.conversation.replace([]);
    this.#composer.focus();
  }

  renderStarters(): void {
    const { starters } = this.#host.options();
    const items = starters.map((text) => {
      const send = button({ text, className: "button", onClick: () => void (this.#send(text), this.#composer.focus()) });
      return el("li", {}, send);
    });
    const list = byId("starters", HTMLUListElement, this.#host.root);
    list.replaceChildren(...items);
    list.hidden = items.length === 0;
  }

  /** Ends what goes on and gives the engine back; what is left of the conversation. */
  destroy(): Message[] {
    clearTimeout(this.#keepTimer);
    this.#ended.abort();
    const messages = this.#keeping.join(this.conversation.end(), false);
    this.session.end();
    return messages;
  }

  #converse(): Conversation {
    const { host, strings } = { host: this.#host, strings: this.#strings };
    return new Conversation({
      transcript: this.#transcript,
      options: () => host.options(),
      dispatch: host.dispatch,
      ready: (signal) => this.session.ready(signal),
      thinking: strings.thinking,
      explain: (problem) => readable(problem, strings),
      onChange: () => this.#conversationChanged(),
      onGrow: () => (this.#keepTimer ||= window.setTimeout(() => this.#keep(), KEEP_MS)),
      onEnd: (answer) => {
        if (!this.#ended.signal.aborted) this.#announce(answer);
      },
    });
  }

  #send(text: string): boolean {
    return this.conversation.send(text) !== null;
  }

  #load(): void {
    this.#composer.focus();
    void this.session.load();
  }

  #agree(): void {
    this.#composer.focus();
    void this.session.agree();
  }

  #messageActions() {
    return {
      copy: async ({ content }: Message) => {
        const { copied, copyDenied } = this.#strings;
        this.#notices.toast((await copyText(content)) ? copied : copyDenied);
      },
      regenerate: () => {
        void this.conversation.regenerate();
        this.#composer.focus();
      },
      edit: (message: Message, text: string) => {
        this.conversation.edit(message, text);
        this.#composer.focus();
      },
      newChat: () => this.clear(),
    };
  }

  #conversationChanged(): void {
    // Another panel has the conversation then.
    if (this.#ended.signal.aborted) return;
    this.#keep();
    const { isAnswering, messages } = this.conversation;
    this.#composer.setBusy(isAnswering);
    byId("clear", HTMLButtonElement, this.#host.root).hidden = messages.length === 0;
    this.#explainWait();
    this.#tellState();
  }

  #sessionChanged(): void {
    const { state, host, fallback } = this.session;
    const told = `${state.kind} ${host ?? ""}`;
    const changed = told !== this.#told;
    this.#told = told;
    this.#tellWhere(host, fallback);
    if (state.kind === "loading" && state.progress) this.#host.dispatch("progress", state.progress);
    if (changed && state.kind === "consent" && !this.#asks(state)) return;
    this.#card.render(state, fallback);
    this.#explainWait();
    this.#tellState();
    if (changed) this.#announceState();
  }

  #tellWhere(host: string | null, fallback: string | null): void {
    const { root } = this.#host;
    const { staysHere, goesTo, mistakes, exception } = this.#strings;
    const where = host === null ? staysHere : filled(goesTo, { host });
    byId("privacy", HTMLElement, root).textContent = where;
    byId("hint", HTMLElement, root).textContent = host === null ? mistakes : where;
    const except = byId("exception", HTMLElement, root);
    except.hidden = fallback === null;
    except.textContent = fallback === null ? "" : filled(exception, { host: fallback });
  }

  /** Whether the card asks for consent; false where the site does, or has it. */
  #asks({ fit, isDeclined }: { fit: DeviceFit; isDeclined: boolean }): boolean {
    const { missingBytes: downloadBytes, memoryBytes } = fit;
    this.#missingBytes = downloadBytes;
    if (this.#host.options().autoLoad && !isDeclined) {
      void this.session.load();
      return false;
    }
    const asked = this.#host.dispatch("consent", { downloadBytes, memoryBytes }, true);
    if (!asked) this.#card.render({ kind: "idle" });
    this.#tellState();
    return asked;
  }

  #announceState(): void {
    const { state, host } = this.session;
    const { downloading, preparing, ready, slow, elsewhere, goesTo } = this.#strings;
    if (state.kind === "elsewhere") {
      const { message } = readable(state.problem, this.#strings);
      this.#notices.announce(`${message} ${filled(elsewhere, { host: state.host })}`);
    }
    if (state.kind === "consent" || state.kind === "paused") this.#notices.announce(this.#card.text);
    if (state.kind === "consent" && !state.isDeclined) this.#leadToCard();
    if (state.kind === "error") {
      const { message, remedy } = readable(state.problem, this.#strings);
      this.#notices.announce(`${message} ${remedy}`);
      // Visitors can't mend what the site has asked for wrongly.
      if (state.problem.code === "invalid_request") console.error(`<mlc-chat>: ${state.problem.message} ${state.problem.remedy}`);
      this.#host.dispatch("error", state.problem);
    }
    if (state.kind === "loading") {
      this.#fullTold = false;
      this.#notices.announce(state.progress?.stage === "download" ? downloading : preparing);
    }
    if (state.kind !== "ready") return;
    this.#host.dispatch("ready", { host });
    const where = host === null ? "" : filled(goesTo, { host });
    if (!this.conversation.isAnswering || where) this.#notices.announce(`${ready} ${where}`.trim());
    if (state.isSoftware) this.#notices.show("slow", { level: "warning", text: slow });
  }

  /** Whoever waits in an empty message box is led to what is to be decided. */
  #leadToCard(): void {
    const box = byId("message", HTMLTextAreaElement, this.#host.root);
    if (box === this.#host.root.activeElement && box.value === "") this.#card.focus();
  }

  #tellState(): void {
    const { kind } = this.session.state;
    const answering = kind === "ready" && this.conversation.isAnswering;
    const state = answering ? "answering" : kind === "idle" ? "checking" : kind;
    this.#host.frame.dataset.state = state;
    if (state === this.#state) return;
    this.#state = state;
    this.#host.dispatch("state", { state });
  }

  #explainWait(): void {
    const answer = this.conversation.messages.at(-1);
    const { state } = this.session;
    if (!this.conversation.isAnswering || !answer || state.kind === "ready") return;
    this.#transcript.wait(answer, this.#whyWaiting(state));
  }

  #whyWaiting(state: BackendState): string {
    const { loadFirst, waiting, elsewhere } = this.#strings;
    if (state.kind === "elsewhere") return filled(elsewhere, { host: state.host });
    return state.kind === "consent" || state.kind === "paused" ? loadFirst : waiting;
  }

  #tellEvent(event: EngineEvent): void {
    const { notKept, keepsNothing, damaged, deviceLost, deviceBack } = this.#strings;
    if (event.kind === "device") {
      if (event.state !== "recovering") this.#notices.toast(event.state === "lost" ? deviceLost : deviceBack);
    } else if (event.kind === "storage" && event.state === "damaged") this.#notices.toast(damaged);
    else if (event.kind === "storage" && event.state === "memory-only" && event.reason !== "deleted" && !this.#fullTold) {
      this.#fullTold = true;
      // What can't be kept is told file by file.
      const size = formatBytes(Math.max(event.neededBytes, this.#missingBytes), this.#host.language);
      const text = filled(event.reason === "denied" ? keepsNothing : notKept, { size });
      this.#notices.show("storage-full", { level: "warning", text });
    }
  }

  #retryOnline(): void {
    const { state } = this.session;
    if (state.kind === "error" && state.problem.code === "network_error") void this.session.start();
  }

  #keep(): void {
    clearTimeout(this.#keepTimer);
    this.#keepTimer = 0;
    if (!this.#keeping.isAt(this.#host.options())) this.#keeping = this.#keepingAt();
    const { lasting, isAnswering } = this.conversation;
    const joined = this.#keeping.join(lasting, isAnswering);
    const isSame = joined.length === lasting.length && joined.every((message, index) => message === lasting[index]);
    if (!isAnswering && !isSame) this.conversation.adopt(joined);
  }

  #keepingAt(): Keeping {
    const { storage, storageKey } = this.#host.options();
    const keeping = new Keeping({ storage, storageKey });
    keeping.onChange(() => keeping === this.#keeping && this.#conversationChanged(), this.#ended.signal);
    return keeping;
  }

  #announce({ content, problem, state }: Message): void {
    const { andMore, assistant, stopped } = this.#strings;
    const text = content.length > MAX_ANNOUNCED ? `${content.slice(0, MAX_ANNOUNCED)} ${andMore}` : content;
    if (problem) this.#notices.announce(`${problem.message} ${problem.remedy}`);
    else this.#notices.announce(state === "abort" ? stopped : `${assistant}: ${text}`);
  }
}
