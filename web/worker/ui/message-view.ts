/** One message on the page. */
import { button, el, isComposing } from "./dom.ts";
import { isCutShort } from "./request.ts";
import { type ConversationStrings, filled } from "./strings.ts";
import type { TextView, TextViews } from "./text-view.ts";
import { ThoughtView } from "./thought-view.ts";
import type { Message, Problem } from "./types.ts";

export interface MessageActions {
  copy(message: Message): void;
  regenerate(message: Message): void;
  edit(message: Message, text: string): void;
  /** Without it answers that broke off stay as they are. */
  goOn?(message: Message): void;
  newChat(): void;
  /** Without it there is nothing to choose from. */
  chooseModel?(): void;
  /** Which of how many versions it is, from 1 on; without it only the last is kept. */
  versions?(message: Message): { at: number; of: number };
  showVersion?(message: Message, step: 1 | -1): void;
  /** More about an answer, to stand beside its buttons. */
  details?(message: Message): HTMLElement | null;
}

/** Whether a message can be asked or answered anew: as the last, or in the middle, where versions are kept. */
export type Redo = "now" | "beside" | "no";

export class MessageView {
  readonly element: HTMLElement;
  readonly #body = el("div", { class: "body", dir: "auto" });
  readonly #foot = el("div");
  readonly #actions: MessageActions;
  readonly #strings: ConversationStrings;
  readonly #views: TextViews;
  readonly #text: TextView | null;
  #thought: ThoughtView | null = null;
  #message: Message;
  #shownFoot = "";

  constructor(message: Message, actions: MessageActions, strings: ConversationStrings, views: TextViews) {
    const user = message.role === "user";
    this.#message = message;
    this.#actions = actions;
    this.#strings = strings;
    this.#views = views;
    this.#text = user ? null : views(this.#body);
    if (!user) this.#body.classList.add("prose");
    this.element = el(
      "article",
      { class: `message ${message.role}`, "aria-label": user ? strings.you : strings.assistant },
      this.#body,
      this.#foot,
    );
    if (user) this.#body.textContent = message.content;
  }

  /** As it is shown. */
  get text(): string {
    return this.#body.innerText.trim();
  }

  /** Shows the text so far of an answer that is being written. */
  grow(message: Message): void {
    this.#message = message;
    this.element.setAttribute("aria-busy", "true");
    this.#shownFoot = "";
    if (message.content !== "" || message.thinking) this.#foot.replaceChildren();
    this.#showThought(message.content === "");
    this.#text?.update(message.content, false);
  }

  /** Shows why there is no text yet. */
  wait(reason: string): void {
    this.element.setAttribute("aria-busy", "true");
    this.#shownFoot = "";
    this.#foot.replaceChildren(el("span", { class: "waiting" }, reason));
  }

  /** Moves the focus to the step in this direction, or to the other one where this is the last. */
  focusVersion(step: 1 | -1): void {
    const steps = [...this.#foot.querySelectorAll<HTMLButtonElement>("[data-step]:enabled")];
    (steps.find(({ dataset }) => dataset.step === String(step)) ?? steps[0])?.focus();
  }

  /** Shows a message that won't change by itself. */
  settle(message: Message, redo: Redo): void {
    this.#message = message;
    this.element.removeAttribute("aria-busy");
    this.#showThought(false);
    this.#text?.update(message.content, true);
    const { content, state, problem, stats, model } = message;
    const shown = JSON.stringify([redo, this.#actions.versions?.(message), content === "", state, problem, stats, model]);
    // What stays the same keeps its focus, and what was opened in it.
    if (shown === this.#shownFoot) return;
    this.#shownFoot = shown;
    this.#foot.replaceChildren(...(message.role === "user" ? this.#userFoot(redo) : this.#answerFoot(redo)));
  }

  #showThought(isThinking: boolean): void {
    const { thinking } = this.#message;
    if (!thinking) return;
    if (!this.#thought) this.element.prepend((this.#thought = new ThoughtView(this.#strings, this.#views)).element);
    this.#thought.update(thinking, isThinking);
  }

  #userFoot(redo: Redo): Node[] {
    const actions = el("div", { class: "actions" }, this.#versions(redo));
    if (redo !== "no") {
      const { edit: text, editMessage: label } = this.#strings;
      const onClick = () => this.#edit();
      const open = button({ icon: "edit", text, label, className: "button quiet small", onClick });
      open.dataset.edit = "";
      actions.append(open);
    }
    return actions.childElementCount > 0 ? [actions] : [];
  }

  /** "2/3" between buttons to the versions before and after; null if there is one alone. */
  #versions(redo: Redo): HTMLElement | null {
    const { at, of } = this.#actions.versions?.(this.#message) ?? { at: 1, of: 1 };
    if (of < 2) return null;
    const { earlierVersion, laterVersion, versionOf } = this.#strings;
    const step = (icon: "previous" | "next", label: string, by: 1 | -1): HTMLButtonElement => {
      const onClick = () => this.#actions.showVersion?.(this.#message, by);
      const go = button({ icon, label, className: "icon-button", onClick });
      go.dataset.step = String(by);
      go.disabled = redo === "no" || at + by < 1 || at + by > of;
      return go;
    };
    const label = filled(versionOf, { at: String(at), of: String(of) });
    return el(
      "span",
      { class: "versions", role: "group", "aria-label": label },
      step("previous", earlierVersion, -1),
      el("span", {}, `${at}/${of}`),
      step("next", laterVersion, 1),
    );
  }

  #answerFoot(redo: Redo): Node[] {
    const { content, problem } = this.#message;
    const note = problem ? null : endNote(this.#message, this.#strings);
    const nodes: Node[] = note ? [el("p", { class: "note" }, note)] : [];
    const isLast = redo === "now";
    if (problem) nodes.push(this.#problem(problem, isLast));
    const strings = this.#strings;
    const actions = el("div", { class: "actions" }, this.#versions(redo));
    const small = "button quiet small";
    if (content !== "") {
      const copy = () => this.#actions.copy(this.#message);
      actions.append(button({ icon: "copy", text: strings.copy, label: strings.copyAnswer, className: small, onClick: copy }));
    }
    if (redo !== "no" && !problem) {
      const again = () => this.#actions.regenerate(this.#message);
      actions.append(button({ icon: "retry", text: strings.regenerate, className: small, onClick: again }));
      if (isLast) actions.append(...this.#goOn(small));
    }
    const details = this.#actions.details?.(this.#message);
    if (details) actions.append(details);
    return actions.childElementCount > 0 ? [...nodes, actions] : nodes;
  }

  #problem(problem: Problem, isLast: boolean): HTMLElement {
    const box = el("div", { class: "problem" }, el("p", {}, el("strong", {}, problem.message)));
    box.append(el("p", {}, problem.remedy));
    if (!isLast) return box;
    const again = button({
      icon: "retry",
      text: this.#strings.tryAgain,
      className: "button small",
      onClick: () => this.#actions.regenerate(this.#message),
    });
    box.append(el("div", { class: "buttons" }, again, ...this.#goOn("button small"), this.#wayOut(problem)));
    return box;
  }

  #goOn(className: string): HTMLElement[] {
    const { goOn } = this.#actions;
    if (!goOn || !isCutShort(this.#message)) return [];
    return [button({ icon: "forward", text: this.#strings.goOn, className, onClick: () => goOn(this.#message) })];
  }

  #wayOut(problem: Problem): HTMLElement | null {
    const { newChat, chooseModel } = this.#actions;
    const { newChatFromHere, otherModels } = this.#strings;
    const className = "button small";
    if (problem.code === "context_length_exceeded") {
      return button({ text: newChatFromHere, className, onClick: () => newChat() });
    }
    return chooseModel ? button({ text: otherModels, className, onClick: () => chooseModel() }) : null;
  }

  #edit(): void {
    const before = [this.#body, this.#foot];
    const box = el("textarea", { "aria-label": this.#strings.editMessage });
    const cancel = () => {
      this.element.replaceChildren(...before);
      this.#foot.querySelector<HTMLElement>("[data-edit]")?.focus();
    };
    const send = () => {
      if (box.value.trim()) this.#actions.edit(this.#message, box.value.trim());
    };
    box.value = this.#message.content;
    const resize = () => {
      box.style.height = "auto";
      box.style.height = `${box.scrollHeight + box.offsetHeight - box.clientHeight}px`;
    };
    box.addEventListener("input", resize);
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") cancel();
      else if (event.key === "Enter" && !event.shiftKey) send();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    const buttons = el("div", { class: "buttons" });
    buttons.append(button({ text: this.#strings.cancel, className: "button small", onClick: cancel }));
    buttons.append(button({ text: this.#strings.sendAgain, className: "button small primary", onClick: send }));
    this.element.replaceChildren(el("div", { class: "edit" }, box, buttons));
    resize();
    box.focus();
  }
}

function endNote({ state, content, thinking }: Message, strings: ConversationStrings): string | null {
  if (state === "length") return strings.endedByLength;
  if (state === "abort") return content || thinking ? strings.stopped : strings.stoppedAtOnce;
  if (state === "open") return strings.interrupted;
  if (state === "tools") return strings.usesTools;
  return content === "" ? strings.emptyAnswer : null;
}
