/** Which conversation is shown, by the page's address, and what is typed there. */
import { html, nothing, render, type TemplateResult } from "lit-html";
import { guard } from "lit-html/directives/guard.js";
import type { Composer } from "../ui/composer.ts";
import { byId, icon } from "../ui/dom.ts";
import type { Notices } from "../ui/notices.ts";
import { filled } from "../ui/strings.ts";
import { nameInAddress, placeOf, temporaryHash } from "./address.ts";
import type { Archived } from "./archive.ts";
import type { Chat } from "./chat.ts";
import { keepDraft, loadDraft } from "./drafts.ts";
import { STRINGS } from "./strings.ts";

export class Places {
  readonly #chat: Chat;
  readonly #composer: Composer;
  readonly #notices: Notices;
  readonly #banner = byId("temporary", HTMLElement);
  #bannerText = "";
  /** The place that is being read. */
  #showing: Promise<void> | null = null;

  constructor(chat: Chat, composer: Composer, notices: Notices) {
    this.#chat = chat;
    this.#composer = composer;
    this.#notices = notices;
    byId("welcome-temporary", HTMLButtonElement).addEventListener("click", () => void this.newTemporary());
  }

  /** @param send for what was typed and entered before this script was here; false if it isn't sent. */
  async start(send: (text: string) => boolean): Promise<void> {
    window.addEventListener("hashchange", () => void this.#open(location.hash));
    const typed = this.#composer.text;
    // Enter breaks a line as long as no script takes it.
    const isEntered = /\S.*\n$/s.test(typed);
    await this.#show(location.hash, isEntered ? "" : typed);
    if (isEntered && !send(typed.trim())) this.#add(typed.trimEnd());
  }

  /** Whether what the address names isn't shown yet. */
  get isOpening(): boolean {
    return this.#showing !== null;
  }

  /** Sends once what the address names is shown; what isn't sent is typed again. */
  async sendWhenShown(text: string, send: (text: string) => boolean): Promise<void> {
    while (this.#showing) await this.#showing;
    if (!send(text)) this.#add(text);
  }

  /** Says over a temporary conversation what it is. */
  render(): void {
    const { isTemporary } = this.#chat;
    byId("welcome-temporary", HTMLElement).hidden = isTemporary;
    render(isTemporary ? this.#drawn() : nothing, this.#banner);
  }

  #drawn(): TemplateResult {
    return html`
      <section class="notice temporary" aria-label=${STRINGS.temporaryChat}>
        ${guard([], () => icon("temporary"))}
        <p>${this.#bannerText}</p>
        <button type="button" class="button small" @click=${() => void this.#makeLasting()}>${STRINGS.keep}</button>
      </section>
    `;
  }

  /** What is typed now belongs to this chat: "" to a new one, null to one of which nothing is kept. */
  get draftKey(): string | null {
    if (this.#chat.isTemporary) return null;
    return this.#chat.isEmpty ? "" : this.#chat.conversation.id;
  }

  typed(text: string): void {
    if (!this.isOpening) keepDraft(this.draftKey, text);
  }

  /** Puts a text behind what is typed. */
  #add(text: string): void {
    const typed = this.#composer.text;
    this.#composer.text = typed && typed !== text ? `${typed}\n${text}` : text;
    this.typed(this.#composer.text);
  }

  /** What is in the box stays typed, unless it was what was sent; another tab's draft is its own. */
  moveDraft(before: string | null, sent: string): void {
    const typed = this.#composer.text;
    if ([sent, typed.trim()].includes(loadDraft(before).trim())) keepDraft(before, "");
    if (typed.trim() !== sent) this.typed(typed);
  }

  newChat(): void {
    if (location.hash.length > 1) location.hash = "";
    else this.#composer.focus();
  }

  /** What was typed for a new chat comes along. */
  async newTemporary(text = this.#chat.isEmpty ? this.#composer.text : ""): Promise<void> {
    if (this.draftKey === "" && text) this.typed("");
    if (location.hash !== temporaryHash) history.pushState(null, "", temporaryHash);
    await this.#open(temporaryHash, text);
  }

  /** Takes a question to a chat of its own. */
  newChatWith(text: string): void {
    if (this.#chat.isTemporary) return void this.newTemporary(text);
    history.pushState(null, "", location.pathname + location.search);
    void this.#open("", text);
  }

  /** Shows a new chat, to which `typed` belongs, without an event, which would move the focus. */
  async leave(typed = ""): Promise<void> {
    nameInAddress("");
    await this.#show("", typed);
  }

  /** Shows what an address names. To it belongs what is `typed`, and what will be until it is shown. */
  async #show(hash: string, typed = ""): Promise<void> {
    this.#composer.text = typed;
    const showing = this.#reach(hash);
    this.#showing = showing;
    await showing;
    // Another one was chosen meanwhile.
    if (this.#showing !== showing) return;
    this.#showing = null;
    const since = this.#composer.text;
    this.#composer.text = loadDraft(this.draftKey);
    if (since) this.#add(since);
  }

  async #reach(hash: string): Promise<void> {
    const place = placeOf(hash);
    if (place.kind === "temporary") this.#showTemporary();
    else if (place.kind === "shared") await this.#showShared(place.packed);
    else await this.#chat.open(place.id);
  }

  #showTemporary(shown?: Archived): void {
    const text = shown ? aboutShared(shown) : STRINGS.temporary;
    this.#bannerText = text;
    this.#chat.openTemporary(shown);
    this.#notices.announce(text);
  }

  async #showShared(packed: string): Promise<void> {
    const { hash } = location;
    const isLeft = () => location.hash !== hash;
    const share = await import("./share.ts").catch(() => null);
    if (share === null) {
      const action = { text: STRINGS.tryAgain, run: () => void this.#open(hash) };
      if (!isLeft()) this.#notices.show("shared", { level: "warning", text: STRINGS.partMissing, action });
      return;
    }
    try {
      const { unpack } = share;
      const shown = await unpack(packed);
      if (isLeft()) return;
      this.#notices.hide("shared");
      this.#showTemporary(shown);
    } catch (error) {
      if (isLeft()) return;
      nameInAddress("");
      await this.#chat.open("");
      this.#notices.show("shared", { level: "warning", text: (error as Error).message });
    }
  }

  async #open(hash: string, typed = ""): Promise<void> {
    await this.#show(hash, typed);
    if (matchMedia("(hover: hover)").matches || this.#chat.isEmpty) this.#composer.focus();
    else byId("scroller", HTMLElement).focus();
  }

  async #makeLasting(): Promise<void> {
    const { title } = this.#chat.conversation;
    const keeping = this.#chat.makeLasting();
    this.typed(this.#composer.text);
    this.#composer.focus();
    const isKept = await keeping;
    if (isKept && !this.#chat.isEmpty) this.#notices.toast(filled(STRINGS.keptNow, { title }));
  }
}

function aboutShared({ conversation: { title, settings } }: Archived): string {
  const text = filled(STRINGS.sharedWithYou, { title });
  return settings.systemPrompt ? `${text} ${STRINGS.sharedWithPrompt}` : text;
}
