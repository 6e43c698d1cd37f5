/** The message box: Enter sends, Shift+Enter breaks the line, Escape stops. */
import { byId } from "./dom.ts";

export interface ComposerActions {
  /** Returns false if the text could not be taken; it then stays in the box. */
  send(text: string): boolean;
  stop(): void;
}

export class Composer {
  readonly #box = byId("message", HTMLTextAreaElement);
  readonly #send = byId("send", HTMLButtonElement);
  readonly #stop = byId("stop", HTMLButtonElement);
  readonly #actions: ComposerActions;
  #busy = false;

  constructor(actions: ComposerActions) {
    this.#actions = actions;
    byId("composer", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#box.addEventListener("input", () => this.#resize());
    this.#box.addEventListener("keydown", (event) => {
      // While an input method composes, Enter belongs to it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", () => this.#actions.stop());
    document.addEventListener("keydown", (event) => {
      const layered = document.querySelector("dialog[open], [popover]:popover-open");
      if (event.key === "Escape" && this.#busy && !layered) this.#actions.stop();
    });
    this.#resize();
  }

  /** While an answer is written, Stop stands where Send was. */
  setBusy(busy: boolean): void {
    if (busy === this.#busy) return;
    const focused = document.activeElement === this.#send || document.activeElement === this.#stop;
    this.#busy = busy;
    this.#send.hidden = busy;
    this.#stop.hidden = !busy;
    if (focused) this.focus();
  }

  focus(): void {
    this.#box.focus();
  }

  /** Puts a text into the box, to be sent or changed. */
  fill(text: string): void {
    this.#box.value = text;
    this.#resize();
    this.focus();
  }

  get text(): string {
    return this.#box.value;
  }

  #submit(): void {
    const text = this.#box.value.trim();
    if (!text || this.#busy || !this.#actions.send(text)) return;
    this.#box.value = "";
    this.#resize();
  }

  #resize(): void {
    this.#box.style.height = "auto";
    this.#box.style.height = `${this.#box.scrollHeight}px`;
    this.#send.setAttribute("aria-disabled", String(this.#box.value.trim() === ""));
  }
}
