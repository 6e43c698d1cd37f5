/** The message box: Enter sends, Shift+Enter breaks the line, Escape stops. */
import { byId, isComposing, type Root } from "./dom.ts";

export interface ComposerActions {
  /** Returns false if the text could not be taken; it then stays in the box. */
  send(text: string): boolean;
  stop(): void;
  /** Called with each change of what is typed. */
  typed?(text: string): void;
}

export class Composer {
  readonly #root: Root;
  readonly #box: HTMLTextAreaElement;
  readonly #send: HTMLButtonElement;
  readonly #stop: HTMLButtonElement;
  readonly #actions: ComposerActions;
  #busy = false;

  constructor(root: Root, actions: ComposerActions) {
    this.#root = root;
    this.#box = byId("message", HTMLTextAreaElement, root);
    this.#send = byId("send", HTMLButtonElement, root);
    this.#stop = byId("stop", HTMLButtonElement, root);
    this.#actions = actions;
    byId("composer", HTMLFormElement, root).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#box.addEventListener("input", () => {
      this.#resize();
      this.#actions.typed?.(this.#box.value);
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", () => this.#actions.stop());
    root.addEventListener("keydown", (pressed) => {
      const event = pressed as KeyboardEvent;
      const layered = root.querySelector("dialog[open], [popover]:popover-open");
      if (event.key !== "Escape" || isComposing(event) || !this.#busy || layered) return;
      // What Escape closes otherwise stays.
      event.preventDefault();
      this.#actions.stop();
    });
    this.#resize();
  }

  /** While an answer is written, Stop stands where Send was. */
  setBusy(busy: boolean): void {
    if (busy === this.#busy) return;
    const focused = [this.#send, this.#stop].some((button) => button === this.#root.activeElement);
    this.#busy = busy;
    this.#send.hidden = busy;
    this.#stop.hidden = !busy;
    if (focused) this.focus();
  }

  focus(): void {
    this.#box.focus();
  }

  get text(): string {
    return this.#box.value;
  }

  /** To be sent or changed. */
  set text(text: string) {
    this.#box.value = text;
    this.#resize();
  }

  #submit(): void {
    const text = this.#box.value.trim();
    if (!text || this.#busy || !this.#actions.send(text)) return;
    this.text = "";
  }

  #resize(): void {
    this.#box.style.height = "auto";
    this.#box.style.height = `${this.#box.scrollHeight}px`;
    this.#send.setAttribute("aria-disabled", String(this.#box.value.trim() === ""));
  }
}
