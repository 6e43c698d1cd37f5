/** Puts the page together. */
import { Composer } from "../ui/composer.ts";
import { button, byId, drawIcons, el } from "../ui/dom.ts";
import type { ChatEngine } from "../ui/engine.ts";
import { Notices } from "../ui/notices.ts";
import { once } from "../ui/once.ts";
import { filled } from "../ui/strings.ts";
import { copyText, Transcript } from "../ui/transcript.ts";
import type { Bundle, Conversation, Message } from "../ui/types.ts";
import { answerStats } from "./answer-stats.ts";
import { answerViews } from "./answer-views.ts";
import { Chat } from "./chat.ts";
import type { ChatDependencies } from "./dependencies.ts";
import { forgetDraft, keepDraft, loadDraft } from "./drafts.ts";
import { ModelCard, renderModelButton } from "./model-card.ts";
import { ModelDialog } from "./model-dialog.ts";
import { Models } from "./models.ts";
import { OfflineHint } from "./offline.ts";
import { Places } from "./places.ts";
import { RoutedEngine } from "./routed-engine.ts";
import { SettingsDialog } from "./settings-dialog.ts";
import { Sidebar } from "./sidebar.ts";
import { StorageNotices } from "./storage-notices.ts";
import { STRINGS } from "./strings.ts";
import { startTheme } from "./theme.ts";
import type { ExportFormat } from "./transfer.ts";

const EPHEMERAL = { unavailable: STRINGS.keepsNothing, blocked: STRINGS.earlierPageOpen };

/** Starts the page; resolves when it is usable, while the model may still load. */
export async function startChat(dependencies: ChatDependencies): Promise<void> {
  drawIcons(document);
  const notices = new Notices(document, STRINGS, () => byId("message", HTMLTextAreaElement).focus());
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
  readonly #places: Places;
  readonly #card: ModelCard;
  readonly #modelDialog: ModelDialog;
  /** Scripts that few visits need come when they are wanted. */
  readonly #dialogs = once(async () => {
    const { RenameDialog, ShareDialog } = await import("./dialogs.ts");
    return { rename: new RenameDialog(), share: new ShareDialog((text) => this.#notices.toast(text)) };
  });
  readonly #transfer = once(async () => {
    const { Transfer } = await import("./transfer.ts");
    return new Transfer(this.#chat, this.#notices);
  });
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
      transcript: new Transcript(document, STRINGS, this.#messageActions(), answerViews(STRINGS)),
      onChange: () => this.#render(),
      onDeleted: (conversation, unanswered) => void this.#deletedElsewhere(conversation, unanswered),
    });
    this.#composer = new Composer(document, {
      send: (text) => this.#send(text),
      stop: () => this.#chat.stop(),
      typed: (text) => this.#places.typed(text),
    });
    this.#places = new Places(this.#chat, this.#composer, notices);
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
    byId("skip-link", HTMLAnchorElement).addEventListener("click", (event) => {
      // Its address would be taken for a conversation's.
      event.preventDefault();
      this.#composer.focus();
    });
    byId("settings-button", HTMLButtonElement).addEventListener("click", () =>
      this.#settings.open(this.#chat.conversation.settings, this.#models.sampling),
    );
    byId("model-button", HTMLButtonElement).addEventListener("click", () => void this.#openModels());
    await this.#places.start((text) => this.#send(text));
    await this.#chat.library.refresh();
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
    if (this.#places.isOpening) {
      void this.#places.sendWhenShown(text, (waited) => this.#send(waited));
      return true;
    }
    const before = this.#places.draftKey;
    const sent = this.#chat.send(text);
    if (sent) this.#places.moveDraft(before, text);
    else this.#tellBusy();
    if (sent && this.#models.state.kind === "idle") this.#card.focus();
    return sent;
  }

  #tellBusy(): void {
    const busy = this.#chat.answered;
    if (this.#chat.isWrittenElsewhere) this.#notices.toast(STRINGS.busyInOtherTab);
    else if (busy?.id === this.#chat.conversation.id) this.#notices.toast(STRINGS.busyHere);
    else if (busy && this.#chat.isTemporary && !this.#chat.isEmpty) {
      // Who went there would lose what is here.
      this.#notices.toast(filled(STRINGS.busyElsewhere, { title: busy.title }));
    } else if (busy) {
      const show = { text: STRINGS.show, run: () => void (location.hash = busy.id) };
      this.#notices.toast(filled(STRINGS.busyElsewhere, { title: busy.title }), show);
    }
  }

  #messageActions() {
    return {
      copy: async ({ content }: { content: string }) => {
        const copied = await copyText(content);
        this.#notices.toast(copied ? STRINGS.answerCopied : STRINGS.answerCopyDenied);
      },
      regenerate: (message: Message) => {
        if (this.#chat.regenerate(message)) this.#composer.focus();
        else this.#tellBusy();
      },
      goOn: (message: Message) => {
        void this.#chat.goOn(message).then((isTaken) => isTaken || this.#tellBusy());
        this.#composer.focus();
      },
      edit: (message: Message, text: string) => {
        const sent = this.#chat.edit(message, text);
        if (sent) this.#composer.focus();
        else this.#tellBusy();
      },
      newChat: () => {
        const last = this.#chat.messages.findLast(({ role }) => role === "user");
        this.#places.newChatWith(last?.content ?? "");
      },
      chooseModel: () => void this.#openModels(),
      versions: (message: Message) => this.#chat.versions(message),
      showVersion: (message: Message, step: 1 | -1) => this.#chat.showVersion(message, step),
      details: answerStats,
    };
  }

  #sidebarActions() {
    return {
      newChat: () => this.#places.newChat(),
      newTemporary: () => void this.#places.newTemporary(),
      rename: (conversation: Conversation) => void this.#openRename(conversation),
      pin: (conversation: Conversation, pinned: boolean) => void this.#chat.library.pin(conversation, pinned),
      share: (conversation: Conversation) => void this.#openShare(conversation),
      remove: (conversation: Conversation) => void this.#remove(conversation),
      exportAs: (conversation: Conversation, format: ExportFormat) => void this.#with(this.#transfer, (transfer) => transfer.export(conversation, format)),
      exportAll: (format: ExportFormat) => void this.#with(this.#transfer, (transfer) => transfer.exportAll(format)),
      importFiles: (files: File[]) => void this.#with(this.#transfer, (transfer) => transfer.import(files)),
      search: (words: string) => this.#chat.library.search(words),
    };
  }

  /** Uses a part of the page that comes when it is wanted. */
  async #with<T>(part: () => Promise<T>, use: (part: T) => unknown): Promise<void> {
    const loaded = await part().catch(() => null);
    if (loaded === null) this.#notices.toast(STRINGS.partMissing);
    else await use(loaded);
  }

  #openRename(conversation: Conversation): Promise<void> {
    const rename = (title: string) => void this.#chat.library.rename(conversation, title);
    return this.#with(this.#dialogs, (dialogs) => dialogs.rename.open(conversation.title, rename));
  }

  #openShare(conversation: Conversation): Promise<void> {
    return this.#with(this.#dialogs, async ({ share }) =>
      share.open({ conversation, messages: await this.#chat.library.messagesOf(conversation) }),
    );
  }

  async #remove(conversation: Conversation): Promise<void> {
    const current = conversation.id === this.#chat.conversation.id;
    const draft = loadDraft(conversation.id);
    const restore = await this.#chat.remove(conversation);
    if (!restore) return;
    forgetDraft(conversation.id);
    if (current) await this.#places.leave();
    const undo = async () => {
      await restore();
      keepDraft(conversation.id, draft);
      if (!current) return;
      // Behind the open list nothing takes the focus.
      this.#sidebar.close();
      location.hash = conversation.id;
    };
    const { title } = conversation;
    const action = { text: STRINGS.undo, run: () => void undo(), focus: true };
    this.#notices.toast(filled(STRINGS.deleted, { title }), action);
  }

  async #deletedElsewhere({ id, title }: Conversation, unanswered: string): Promise<void> {
    const texts = [unanswered, this.#composer.text].filter((text) => text !== "");
    forgetDraft(id);
    await this.#places.leave(texts.join("\n"));
    this.#notices.toast(filled(STRINGS.deletedElsewhere, { title }));
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
      this.#notices.announce(filled(STRINGS.loadingNow, { model: state.bundle.id }));
    }
    if (state.kind !== "ready") return;
    if (this.#chat.activity === "none") this.#notices.announce(filled(STRINGS.readyNow, { model: state.bundle.id }));
    if (state.model.adapter.isSoftware) {
      const text = STRINGS.softwareGpu;
      this.#notices.show("software", { level: "warning", text });
    } else this.#notices.hide("software");
  }

  #deviceChanged(state: "lost" | "recovering" | "recovered"): void {
    const texts = {
      lost: STRINGS.deviceLost,
      recovering: STRINGS.deviceRecovering,
      recovered: STRINGS.deviceRecovered,
    };
    this.#notices.toast(texts[state]);
  }

  #render(): void {
    const { conversation, isTemporary, library } = this.#chat;
    this.#sidebar.render(library.conversations, conversation.id);
    this.#places.render();
    this.#composer.setBusy(this.#chat.answered?.id === conversation.id);
    const title = isTemporary ? STRINGS.temporaryChat : conversation.title;
    byId("conversation-title", HTMLElement).textContent = title;
    document.title = `${title} · mlc-edge`;
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
    const examples = STRINGS.examples.map((text) => {
      const send = button({ text, className: "button", onClick: () => void (this.#send(text), this.#composer.focus()) });
      return el("li", {}, send);
    });
    byId("examples", HTMLUListElement).replaceChildren(...examples);
  }
}
