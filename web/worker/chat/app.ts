/** Puts the page together. */
import { Composer } from "../ui/composer.ts";
import { button, byId, drawIcons, el } from "../ui/dom.ts";
import { download, fileName, toMarkdown } from "../ui/export.ts";
import { Notices } from "../ui/notices.ts";
import { ENGLISH } from "../ui/strings.ts";
import { copyText, Transcript } from "../ui/transcript.ts";
import type { Bundle, Conversation, Message } from "../ui/types.ts";
import { parseArchive, toArchive } from "./archive.ts";
import { Chat } from "./chat.ts";
import type { ChatDependencies } from "./dependencies.ts";
import { forgetDraft, keepDraft, loadDraft } from "./drafts.ts";
import type { ChatEngine } from "./engine.ts";
import { ModelCard, renderModelButton } from "./model-card.ts";
import { ModelDialog } from "./model-dialog.ts";
import { Models } from "./models.ts";
import { OfflineHint } from "./offline.ts";
import { RenameDialog } from "./rename-dialog.ts";
import { RoutedEngine } from "./routed-engine.ts";
import { SettingsDialog } from "./settings-dialog.ts";
import { Sidebar } from "./sidebar.ts";
import { StorageNotices } from "./storage-notices.ts";
import { startTheme } from "./theme.ts";

const EXAMPLES = [
  "What is 17 + 25?",
  "My name is Ada.",
  "Tell me a story about a cat",
  "What is the capital of France?",
  "What is mlc-edge?",
];

const EPHEMERAL = {
  unavailable: "This browser keeps nothing for this page: conversations end when it is closed.",
  blocked:
    "Another tab has an earlier version of this page open, and your conversations with it: close it and reload. What you write now ends with this tab.",
};

/** Starts the page; resolves when it is usable, while the model may still load. */
export async function startChat(dependencies: ChatDependencies): Promise<void> {
  drawIcons(document);
  const notices = new Notices(document, ENGLISH, () => byId("message", HTMLTextAreaElement).focus());
  const offline = new OfflineHint(dependencies.files);
  startTheme();
  const { ephemeral } = dependencies.store;
  if (ephemeral) notices.show("memory", { level: "warning", text: EPHEMERAL[ephemeral] });
  // The engine waits for it: its script is stored only if the service worker was there before it.
  const registered = offline.start(notices);
  const page = new ChatPage(dependencies, new RoutedEngine(dependencies.createEngine), notices, offline, registered);
  await page.start();
}

class ChatPage {
  readonly #notices: Notices;
  readonly #offline: OfflineHint;
  readonly #registered: Promise<void>;
  readonly #storage: StorageNotices;
  readonly #models: Models;
  readonly #chat: Chat;
  readonly #sidebar: Sidebar;
  readonly #composer: Composer;
  readonly #card: ModelCard;
  readonly #modelDialog: ModelDialog;
  readonly #rename = new RenameDialog();
  readonly #settings = new SettingsDialog((settings) => void this.#chat.changeSettings(settings));
  #announced = "";

  constructor(
    dependencies: ChatDependencies,
    engine: ChatEngine,
    notices: Notices,
    offline: OfflineHint,
    registered: Promise<void>,
  ) {
    this.#notices = notices;
    this.#offline = offline;
    this.#registered = registered;
    this.#models = new Models(engine, dependencies.indexUrl);
    this.#storage = new StorageNotices(notices, () => engine.storage, () => void this.#openModels());
    this.#chat = new Chat({
      engine,
      models: this.#models,
      store: dependencies.store,
      notices,
      transcript: new Transcript(document, ENGLISH, this.#messageActions()),
      onChange: () => this.#render(),
      onDeleted: (conversation, unanswered) => void this.#deletedElsewhere(conversation, unanswered),
    });
    this.#composer = new Composer(document, {
      send: (text) => this.#send(text),
      stop: () => this.#chat.stop(),
      typed: (text) => keepDraft(this.#draftKey, text),
    });
    this.#sidebar = new Sidebar(this.#sidebarActions());
    this.#card = new ModelCard(this.#cardActions());
    this.#modelDialog = new ModelDialog(this.#models, this.#dialogActions(engine));
    this.#models.onChange(() => this.#modelChanged());
    engine.onEvent((event) => {
      if (event.kind === "device") this.#deviceChanged(event.state);
      if (event.kind === "storage") this.#storage.tell(event);
    });
  }

  async start(): Promise<void> {
    this.#showExamples();
    const open = () => void this.#open(location.hash.slice(1));
    window.addEventListener("hashchange", open);
    byId("skip-link", HTMLAnchorElement).addEventListener("click", (event) => {
      // Its address would be taken for a conversation's.
      event.preventDefault();
      this.#composer.focus();
    });
    byId("settings-button", HTMLButtonElement).addEventListener("click", () =>
      this.#settings.open(this.#chat.conversation.settings, this.#models.sampling),
    );
    byId("model-button", HTMLButtonElement).addEventListener("click", () => void this.#openModels());
    // Typed before this script was here.
    const typed = this.#composer.text;
    await this.#show(location.hash.slice(1));
    if (typed) {
      this.#composer.text = typed;
      keepDraft(this.#draftKey, typed);
    }
    await this.#chat.refreshList();
    if (matchMedia("(hover: hover)").matches) this.#composer.focus();
    await this.#registered;
    await this.#models.start(this.#policy());
  }

  async #openModels(): Promise<void> {
    await this.#registered;
    await this.#modelDialog.open();
  }

  #policy = () => this.#chat.conversation.settings.contextPolicy;

  #send(text: string): boolean {
    // Without a model an answer would wait for ever: show what can be done about that instead.
    if (this.#models.state.kind === "error") {
      this.#card.focus();
      return false;
    }
    const before = this.#draftKey;
    const sent = this.#chat.send(text);
    if (sent) this.#moveDraft(before, text);
    else this.#tellBusy();
    if (sent && this.#models.state.kind === "idle") this.#card.focus();
    return sent;
  }

  /** What is in the box stays typed, unless it was what was sent; another tab's draft is its own. */
  #moveDraft(before: string, sent: string): void {
    const typed = this.#composer.text;
    if ([sent, typed.trim()].includes(loadDraft(before).trim())) keepDraft(before, "");
    if (typed.trim() !== sent) keepDraft(this.#draftKey, typed);
  }

  #tellBusy(): void {
    const busy = this.#chat.answered;
    if (!busy || busy.id === this.#chat.conversation.id) return;
    const run = () => (location.hash = busy.id);
    this.#notices.toast(`“${busy.title}” is being answered; one answer at a time.`, { text: "Show", run: () => void run() });
  }

  /** What is typed now belongs to this chat: "" to a new one. */
  get #draftKey(): string {
    return this.#chat.messages.length > 0 ? this.#chat.conversation.id : "";
  }

  async #show(id: string): Promise<void> {
    await this.#chat.open(id);
    this.#composer.text = loadDraft(this.#draftKey);
  }

  async #open(id: string): Promise<void> {
    await this.#show(id);
    if (matchMedia("(hover: hover)").matches || !id) this.#composer.focus();
    else byId("scroller", HTMLElement).focus();
  }

  #newChat(): void {
    if (location.hash.length > 1) location.hash = "";
    else this.#composer.focus();
  }

  #messageActions() {
    return {
      copy: async ({ content }: { content: string }) => {
        const copied = await copyText(content);
        this.#notices.toast(copied ? "Answer copied." : "This browser doesn’t let the page copy.");
      },
      regenerate: (message: Message) => {
        this.#chat.regenerate(message);
        this.#composer.focus();
      },
      edit: (message: Message, text: string) => {
        const sent = this.#chat.edit(message, text);
        if (sent) this.#composer.focus();
        else this.#tellBusy();
      },
      newChat: () => {
        const last = this.#chat.messages.findLast(({ role }) => role === "user");
        keepDraft("", last?.content ?? "");
        this.#newChat();
      },
      chooseModel: () => void this.#openModels(),
      versions: (message: Message) => this.#chat.versions(message),
      showVersion: (message: Message, step: 1 | -1) => this.#chat.showVersion(message, step),
    };
  }

  #sidebarActions() {
    return {
      newChat: () => this.#newChat(),
      rename: (conversation: Conversation) =>
        this.#rename.open(conversation.title, (title) => void this.#chat.rename(conversation, title)),
      remove: (conversation: Conversation) => void this.#remove(conversation),
      exportAs: (conversation: Conversation, format: "json" | "markdown") =>
        void this.#export(conversation, format),
      exportAll: () => void this.#exportAll(),
      importFile: (file: File) => void this.#import(file),
      search: (words: string) => this.#chat.search(words),
    };
  }

  async #remove(conversation: Conversation): Promise<void> {
    const current = conversation.id === this.#chat.conversation.id;
    const draft = loadDraft(conversation.id);
    const restore = await this.#chat.remove(conversation);
    if (!restore) return;
    forgetDraft(conversation.id);
    if (current) await this.#leave();
    const undo = async () => {
      await restore();
      keepDraft(conversation.id, draft);
      if (current) location.hash = conversation.id;
    };
    this.#notices.toast(`Deleted “${conversation.title}”.`, { text: "Undo", run: () => void undo(), focus: true });
  }

  /** Shows a new chat without an event, which would move the focus. */
  async #leave(): Promise<void> {
    history.replaceState(null, "", location.pathname + location.search);
    await this.#show("");
  }

  async #deletedElsewhere({ title }: Conversation, unanswered: string): Promise<void> {
    if (unanswered) keepDraft("", unanswered);
    await this.#leave();
    this.#notices.toast(`“${title}” was deleted in another tab.`);
  }

  async #export(conversation: Conversation, format: "json" | "markdown"): Promise<void> {
    if (format === "json") {
      const archive = toArchive(await this.#chat.archived([conversation]));
      download(fileName(conversation.title, "json"), archive, "application/json");
    } else {
      const messages = await this.#chat.messagesOf(conversation);
      download(fileName(conversation.title, "md"), toMarkdown(conversation, messages), "text/markdown");
    }
  }

  async #exportAll(): Promise<void> {
    const archive = toArchive(await this.#chat.archived(this.#chat.conversations));
    download(`conversations-${new Date().toISOString().slice(0, 10)}.json`, archive, "application/json");
  }

  async #import(file: File): Promise<void> {
    try {
      const all = parseArchive(await file.text());
      await this.#chat.restore(all);
      const few = all.length === 1 ? "1 conversation is" : `${all.length} conversations are`;
      this.#notices.toast(`${few} here now.`);
    } catch (error) {
      this.#notices.show("import", { level: "warning", text: `${file.name} wasn’t imported. ${(error as Error).message}` });
    }
  }

  #cardActions() {
    const current = () => ("bundle" in this.#models.state ? this.#models.state.bundle : null);
    return {
      load: () => {
        const bundle = current();
        if (bundle) this.#load(bundle);
      },
      cancel: () => {
        void this.#models.cancel();
        this.#composer.focus();
      },
      retry: () => {
        const bundle = current();
        if (bundle) this.#load(bundle);
        else void this.#models.start(this.#policy());
        this.#composer.focus();
      },
      choose: () => void this.#openModels(),
    };
  }

  #load(bundle: Bundle): void {
    void this.#storage.askToKeep();
    void this.#models.load(bundle, this.#policy());
    this.#composer.focus();
  }

  #dialogActions(engine: ChatEngine) {
    return {
      use: (bundle: Bundle) => {
        void this.#models.select(bundle, this.#policy());
        this.#composer.focus();
      },
      deleteFiles: (bundle: Bundle) => this.#models.deleteFiles(bundle),
      deleteLeftovers: () => this.#models.deleteLeftovers(),
      check: (bundle: Bundle) => engine.check(bundle.url),
      storageText: () => this.#storage.summary(),
    };
  }

  #modelChanged(): void {
    const { state } = this.#models;
    this.#card.render(this.#models);
    this.#offline.show(this.#models.offlineCount);
    renderModelButton(state);
    this.#renderEngineState();
    if (state.kind === this.#announced) return;
    this.#announced = state.kind;
    if (state.kind === "error") this.#notices.announce(`${state.problem.message} ${state.problem.remedy}`);
    if (state.kind === "loading") {
      this.#storage.begin();
      this.#notices.announce(`Loading ${state.bundle.id}.`);
    }
    if (state.kind !== "ready") return;
    if (this.#chat.activity === "none") this.#notices.announce(`${state.bundle.id} is ready.`);
    if (state.model.adapter.isSoftware) {
      const text = "No GPU found: running on the CPU through software WebGPU, slow.";
      this.#notices.show("software", { level: "warning", text });
    } else this.#notices.hide("software");
  }

  #deviceChanged(state: "lost" | "recovering" | "recovered"): void {
    const texts = {
      lost: "The GPU was reset by the system; starting it again.",
      recovering: "Starting the GPU again …",
      recovered: "The GPU is back.",
    };
    this.#notices.toast(texts[state]);
  }

  #render(): void {
    const { conversation, conversations } = this.#chat;
    this.#sidebar.render(conversations, conversation.id);
    this.#composer.setBusy(this.#chat.answered?.id === conversation.id);
    byId("conversation-title", HTMLElement).textContent = conversation.title;
    document.title = `${conversation.title} · mlc-edge`;
    this.#renderEngineState();
  }

  /** For styles and for tests: what the engine is doing. */
  #renderEngineState(): void {
    const { kind } = this.#models.state;
    const names = { listing: "idle", unloaded: "idle", checking: "loading" } as Record<string, string>;
    const writing = this.#chat.activity === "writing" && kind === "ready";
    document.documentElement.dataset.engine = writing ? "generating" : (names[kind] ?? kind);
  }

  #showExamples(): void {
    const examples = EXAMPLES.map((text) => {
      const send = button({ text, className: "button", onClick: () => void (this.#send(text), this.#composer.focus()) });
      return el("li", {}, send);
    });
    byId("examples", HTMLUListElement).replaceChildren(...examples);
  }
}
