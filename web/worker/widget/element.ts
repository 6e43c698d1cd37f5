/** `<mlc-chat>` as it is before it was opened: a button, and what sites set and call. */
import { isComposing } from "../ui/dom.ts";
import { problemOf } from "../ui/problems.ts";
import type { Message } from "../ui/types.ts";
import { forget } from "./keeping.ts";
import { Launcher } from "./launcher.ts";
import { fromWidgetMessages, toWidgetMessages } from "./messages.ts";
import { loadPanelScript } from "./panel-script.ts";
import type { Panel } from "./panel.ts";
import { directionOf, type Language, languageOf } from "./strings/launcher.ts";
import type { WidgetStrings } from "./strings/table.ts";
import { toMarkdown } from "./transcript-text.ts";
import type {
  Dispatch,
  Draft,
  GivenEngine,
  MlcChatEvents,
  TranscriptStorage,
  WidgetMessage,
  WidgetOptions,
  WidgetState,
} from "./types.ts";

const PROPERTIES = ["engine", "messages", "responseFormat", "starters", "strings", "systemPrompt", "tools"];
// Servers that render pages import this, too.
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

export interface MlcChat {
  addEventListener<K extends keyof MlcChatEvents>(
    type: K,
    listener: (this: MlcChat, event: MlcChatEvents[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** A conversation with a model of this browser, or of a server that the site names. */
export class MlcChat extends Base {
  static readonly observedAttributes = ["dir", "lang", "mode", "open", "server", "src"];
  /** The engine's script, where it isn't beside this one. */
  static workerURL: string | URL | null = null;

  readonly #internals = this.attachInternals();
  #launcher: Launcher | null = null;
  #panel: Promise<Panel> | null = null;
  #made: Panel | null = null;
  /** The conversation while there is no panel. */
  #messages: Message[] | null = null;
  /** What is typed while there is no panel. */
  #draft: Draft = { text: "", isFocused: false };
  #tools: readonly object[] | null = null;
  #systemPrompt = "";
  #responseFormat: object | null = null;
  #strings: Partial<WidgetStrings> = {};
  #engine: GivenEngine | null = null;
  #starters: readonly string[] = [];
  /** Whether its script could not be had. */
  #isFailed = false;

  constructor() {
    super();
    this.addEventListener("keydown", (event) => this.#pressed(event as KeyboardEvent));
  }

  connectedCallback(): void {
    for (const name of PROPERTIES) this.#takeOver(name);
    if (!this.#launcher) this.#render();
  }

  disconnectedCallback(): void {
    // An element that is moved is connected again at once.
    queueMicrotask(() => {
      if (!this.isConnected) this.#end();
    });
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after || !this.#launcher) return;
    if (name === "open") this.#showOrHide();
    else this.#rebuild();
  }

  /** Whether it is open; the attribute opens it with the page. */
  get open(): boolean {
    return this.hasAttribute("open");
  }

  set open(open: boolean) {
    this.toggleAttribute("open", open);
  }

  get state(): WidgetState {
    return this.#made?.state ?? (this.#isFailed ? "error" : "closed");
  }

  /** The conversation, as OpenAI's API has it; what is set takes its place. Throws TypeError. */
  get messages(): WidgetMessage[] {
    return toWidgetMessages(this.#made?.conversation.messages ?? this.#messages ?? []);
  }

  set messages(messages: WidgetMessage[]) {
    this.#messages = fromWidgetMessages(messages);
    this.#made?.conversation.replace(this.#messages);
  }

  /** OpenAI's `tools`, as each request has them. */
  get tools(): readonly object[] | null {
    return this.#tools;
  }

  set tools(tools: readonly object[] | null) {
    this.#tools = tools;
  }

  get systemPrompt(): string {
    return this.#systemPrompt;
  }

  set systemPrompt(text: string) {
    this.#systemPrompt = String(text ?? "");
  }

  /** OpenAI's `response_format`, as each request has it. */
  get responseFormat(): object | null {
    return this.#responseFormat;
  }

  set responseFormat(format: object | null) {
    this.#responseFormat = format;
  }

  /** Words in the place of the widget's own. */
  get strings(): Partial<WidgetStrings> {
    return this.#strings;
  }

  set strings(strings: Partial<WidgetStrings>) {
    this.#strings = { ...strings };
    this.#rebuild();
  }

  /** An engine with a model loaded, such as createEngine's, in the place of one of its own. */
  get engine(): GivenEngine | null {
    return this.#engine;
  }

  set engine(engine: GivenEngine | null) {
    this.#engine = engine;
    this.#rebuild();
  }

  /** Questions that an empty conversation offers. */
  get starters(): readonly string[] {
    return this.#starters;
  }

  set starters(starters: readonly string[]) {
    this.#starters = [...starters].map(String);
    this.#made?.renderStarters();
  }

  /** Downloads the model, if need be, without asking; rejects where there will be no answers. */
  async load(): Promise<void> {
    await (await this.#prepare()).session.loaded();
  }

  /** Opens the widget and sends a message; the answer, or null where there is none. */
  async send(text: string): Promise<WidgetMessage | null> {
    this.open = true;
    const answer = await (await this.#prepare()).conversation.send(text);
    return answer ? (toWidgetMessages([answer])[0] ?? null) : null;
  }

  stop(): void {
    this.#made?.conversation.stop();
  }

  /** Writes the last answer anew. */
  async regenerate(): Promise<WidgetMessage | null> {
    const answer = await (await this.#prepare()).conversation.regenerate();
    return answer ? (toWidgetMessages([answer])[0] ?? null) : null;
  }

  /** Forgets the conversation, also where it is kept. */
  clear(): void {
    this.#messages = [];
    if (this.#made) this.#made.clear();
    else forget(this.#options());
  }

  /** The conversation as a text: Markdown for people, or JSON. */
  export(format: "markdown" | "json" = "markdown"): string {
    if (format === "json") return `${JSON.stringify(this.messages, null, 2)}\n`;
    return toMarkdown(this.messages, this.#strings);
  }

  override focus(options?: FocusOptions): void {
    if (this.open && this.#made) this.#made.focus(options);
    else this.#launcher?.button.focus(options);
  }

  get #language(): Language {
    const tag = this.closest<HTMLElement>("[lang]")?.lang || globalThis.navigator.language;
    return languageOf(tag);
  }

  get #floating(): boolean {
    const mode = this.getAttribute("mode");
    return mode === "floating" || (mode !== "inline" && this.parentElement === this.ownerDocument.body);
  }

  /** What a page set before this script came hides the property until it is set anew. */
  #takeOver(name: string): void {
    if (!Object.hasOwn(this, name)) return;
    const properties = this as unknown as Record<string, unknown>;
    const value = properties[name];
    delete properties[name];
    properties[name] = value;
  }

  /** Escape closes what floats, unless something inside had a use for it. */
  #pressed(event: KeyboardEvent): void {
    if (event.key !== "Escape" || isComposing(event)) return;
    if (event.defaultPrevented || !this.open || !this.#floating) return;
    event.preventDefault();
    this.open = false;
  }

  #render(): void {
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    const floating = this.#floating;
    const language = this.#language;
    const { states } = this.#internals;
    states.delete(floating ? "inline" : "floating");
    states.add(floating ? "floating" : "inline");
    const direction = this.dir === "ltr" || this.dir === "rtl" ? this.dir : directionOf(language);
    this.#launcher = new Launcher(root, { floating, language, direction, strings: this.#strings }, () => {
      this.open = !this.open;
    });
    this.#showOrHide(false);
  }

  #showOrHide(focus = true): void {
    const launcher = this.#launcher;
    if (!launcher) return;
    if (!this.open) {
      const focused = this.shadowRoot?.activeElement ?? (this.contains(document.activeElement) || null);
      launcher.hide();
      if (focused) launcher.button.focus();
      return;
    }
    launcher.show();
    this.#prepare().then(
      (panel) => {
        if (focus && this.open) panel.focus();
      },
      () => undefined,
    );
  }

  #prepare(): Promise<Panel> {
    if (!this.#launcher || !this.isConnected) return Promise.reject(new Error("<mlc-chat> isn't in a document."));
    this.#panel ??= this.#makePanel(this.#launcher);
    return this.#panel;
  }

  async #makePanel(launcher: Launcher): Promise<Panel> {
    launcher.wait();
    this.#isFailed = false;
    try {
      const { Panel } = await loadPanelScript();
      if (!this.#isShown(launcher)) return await this.#prepare();
      this.#made = new Panel({
        root: launcher.root,
        frame: launcher.frame,
        language: this.#language,
        strings: this.#strings,
        floating: this.#floating,
        engine: this.#engine,
        messages: this.#messages,
        draft: this.#draft,
        options: () => this.#options(),
        dispatch: this.#dispatch,
        close: () => (this.open = false),
      });
      this.#draft = { text: "", isFocused: false };
      return this.#made;
    } catch (error) {
      if (this.#isShown(launcher)) {
        this.#panel = null;
        this.#isFailed = true;
        launcher.fail(() => this.#showOrHide());
        this.#dispatch("error", problemOf(error));
        this.#dispatch("state", { state: this.state });
      }
      throw error;
    }
  }

  /** Whether the place of a panel is still the element's: it may have been rebuilt or removed meanwhile. */
  #isShown(launcher: Launcher): boolean {
    return launcher === this.#launcher && this.isConnected;
  }

  #options(): WidgetOptions {
    const server = this.getAttribute("server") || null;
    const src = this.getAttribute("src");
    const storage = this.getAttribute("storage") as TranscriptStorage;
    return {
      src,
      server,
      workerURL: MlcChat.workerURL,
      autoLoad: this.getAttribute("load") === "auto",
      storage: storage === "session" || storage === "local" ? storage : "none",
      storageKey: `mlc-chat:${this.id || src || server || ""}`,
      tools: this.#tools,
      systemPrompt: this.#systemPrompt,
      responseFormat: this.#responseFormat,
      starters: this.#starters,
    };
  }

  #dispatch: Dispatch = (type, detail, cancelable = false) =>
    this.dispatchEvent(new CustomEvent(type, { detail, cancelable }));

  /** With other words, another model or another place; the conversation stays. */
  #rebuild(): void {
    if (!this.#launcher) return;
    const isFocused = this.shadowRoot?.activeElement != null;
    this.#end();
    this.#draft = { ...this.#draft, isFocused: this.#draft.isFocused || isFocused };
    this.#render();
    if (isFocused && !this.open) this.#launcher.button.focus();
  }

  #end(): void {
    if (this.#made) {
      this.#draft = { text: this.#made.draft, isFocused: false };
      this.#messages = this.#made.destroy();
    }
    this.#made = null;
    this.#panel = null;
    if (!this.isConnected) this.#launcher = null;
  }
}
