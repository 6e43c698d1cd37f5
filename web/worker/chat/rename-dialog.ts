/** Asks for a conversation's name. */
import { byId } from "../ui/dom.ts";

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
