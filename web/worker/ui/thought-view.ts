/** What a model thought before its answer, folded; it is rendered once somebody unfolds it. */
import { el } from "./dom.ts";
import { type ConversationStrings, filled } from "./strings.ts";
import type { TextView, TextViews } from "./text-view.ts";
import type { Thinking } from "./types.ts";

export class ThoughtView {
  readonly #summary = el("summary");
  readonly #body = el("div", { class: "prose", dir: "auto" });
  readonly element = el("details", { class: "thinking" }, this.#summary, this.#body);
  readonly #strings: ConversationStrings;
  #text: TextView | null = null;
  #shown: Parameters<TextView["update"]> = ["", false];

  constructor(strings: ConversationStrings, views: TextViews) {
    this.#strings = strings;
    this.element.addEventListener("toggle", () => {
      if (this.element.open) (this.#text ??= views(this.#body)).update(...this.#shown);
    });
  }

  update({ text, seconds }: Thinking, isThinking: boolean): void {
    const { thinkingFor, thoughtFor } = this.#strings;
    const time = isThinking ? String(Math.floor(seconds)) : seconds.toFixed(1);
    const label = filled(isThinking ? thinkingFor : thoughtFor, { seconds: time });
    if (this.#summary.textContent !== label) this.#summary.textContent = label;
    this.#shown = [text, !isThinking];
    if (this.element.open) this.#text?.update(...this.#shown);
  }
}
