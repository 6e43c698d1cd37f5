/** The small dialogs about one conversation. */
import { byId } from "../ui/dom.ts";
import { formatCount } from "../ui/format.ts";
import { filled } from "../ui/strings.ts";
import { copyText } from "../ui/transcript.ts";
import { sharedUrl } from "./address.ts";
import { type Archived, toArchive } from "./archive.ts";
import { download, fileName } from "./export.ts";
import { MAX_LINK, pack, shareable } from "./share.ts";
import { STRINGS } from "./strings.ts";

/** Asks for a conversation's name. */
export class RenameDialog {
  readonly #dialog = byId("rename-dialog", HTMLDialogElement);
  readonly #input = byId("rename-input", HTMLInputElement);
  #onRename: (title: string) => void = () => {};

  constructor() {
    byId("rename-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const title = this.#input.value.trim();
      if (!title) {
        this.#input.focus();
        return;
      }
      this.#dialog.close();
      this.#onRename(title);
    });
    byId("rename-cancel", HTMLButtonElement).addEventListener("click", () => this.#dialog.close());
  }

  open(title: string, onRename: (title: string) => void): void {
    this.#onRename = onRename;
    this.#input.value = title;
    this.#dialog.showModal();
    this.#input.select();
  }
}

/** Hands a conversation to others: as a link, or as a file. */
export class ShareDialog {
  readonly #dialog = byId("share-dialog", HTMLDialogElement);
  readonly #prompt = byId("share-prompt", HTMLInputElement);
  readonly #link = byId("share-link", HTMLInputElement);
  readonly #hint = byId("share-hint", HTMLElement);
  readonly #copy = byId("share-copy", HTMLButtonElement);
  readonly #send = byId("share-send", HTMLButtonElement);
  readonly #told: (text: string) => void;
  #shared: Archived | null = null;
  /** What of it the link is to hold. */
  #offered: Archived | null = null;

  /** `told` is given what happened, for people. */
  constructor(told: (text: string) => void) {
    this.#told = told;
    this.#prompt.addEventListener("change", () => void this.#show());
    this.#link.addEventListener("focus", () => this.#link.select());
    this.#copy.addEventListener("click", () => void this.#copyLink());
    this.#send.addEventListener("click", () => void this.#sendLink());
    byId("share-file", HTMLButtonElement).addEventListener("click", () => this.#save());
    byId("share-close", HTMLButtonElement).addEventListener("click", () => this.#dialog.close());
  }

  /** Of the conversation, the branch that is shown. */
  async open(shared: Archived): Promise<void> {
    this.#shared = shared;
    this.#prompt.checked = false;
    const hasPrompt = shared.conversation.settings.systemPrompt !== "";
    byId("share-with-prompt", HTMLElement).hidden = !hasPrompt;
    this.#dialog.showModal();
    await this.#show();
    if (this.#shared !== shared) return;
    if (this.#copy.hidden) byId("share-file", HTMLButtonElement).focus();
    else this.#copy.focus();
  }

  async #show(): Promise<void> {
    this.#offer("", STRINGS.linkMaking);
    const chosen = this.#chosen();
    this.#offered = chosen;
    const url = await pack(chosen).then(sharedUrl, () => null);
    // Another one is offered by now.
    if (this.#offered !== chosen) return;
    if (url === null) this.#offer("", STRINGS.linkImpossible);
    else if (url.length > MAX_LINK) this.#offer("", tooLong(url.length));
    else this.#offer(url, STRINGS.linkIsWhole);
  }

  /** A link, or why there is none. */
  #offer(url: string, hint: string): void {
    this.#link.value = url;
    byId("share-field", HTMLElement).hidden = url === "";
    this.#copy.hidden = url === "";
    this.#send.hidden = url === "" || !("share" in navigator);
    this.#hint.textContent = hint;
  }

  #chosen(): Archived {
    if (!this.#shared) throw new Error("nothing is shared");
    return shareable(this.#shared, this.#prompt.checked);
  }

  async #copyLink(): Promise<void> {
    if (await copyText(this.#link.value)) {
      this.#dialog.close();
      this.#told(STRINGS.linkCopied);
    } else {
      this.#link.focus();
      this.#hint.textContent = STRINGS.linkCopyDenied;
    }
  }

  async #sendLink(): Promise<void> {
    const { title } = this.#chosen().conversation;
    try {
      await navigator.share({ title, url: this.#link.value });
      this.#dialog.close();
    } catch {
      // Whoever left the system's dialog can still copy the link.
    }
  }

  #save(): void {
    const chosen = this.#chosen();
    download(fileName(chosen.conversation.title, "json"), toArchive([chosen]), "application/json");
    this.#dialog.close();
  }
}

function tooLong(length: number): string {
  return filled(STRINGS.linkTooLong, { length: formatCount(length), limit: formatCount(MAX_LINK) });
}
