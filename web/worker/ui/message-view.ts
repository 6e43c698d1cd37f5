/** One message on the page. */
import { button, el, isComposing } from "./dom.ts";
import { formatCount, formatRate, formatSeconds } from "./format.ts";
import { MarkdownView } from "./markdown.ts";
import { type ConversationStrings, filled } from "./strings.ts";
import type { AnswerStats, Message, Problem } from "./types.ts";

export interface MessageActions {
  copy(message: Message): void;
  regenerate(message: Message): void;
  edit(message: Message, text: string): void;
  newChat(): void;
  /** Without it there is nothing to choose from. */
  chooseModel?(): void;
  /** Which of how many versions it is, from 1 on; without it only the last is kept. */
  versions?(message: Message): { at: number; of: number };
  showVersion?(message: Message, step: 1 | -1): void;
}

/** Whether a message can be asked or answered anew: as the last, or in the middle, where versions are kept. */
export type Redo = "now" | "beside" | "no";

export class MessageView {
  readonly element: HTMLElement;
  readonly #body = el("div", { class: "body", dir: "auto" });
  readonly #foot = el("div");
  readonly #actions: MessageActions;
  readonly #strings: ConversationStrings;
  readonly #markdown: MarkdownView | null;
  #message: Message;
  #shownFoot = "";

  constructor(message: Message, actions: MessageActions, strings: ConversationStrings) {
    const user = message.role === "user";
    this.#message = message;
    this.#actions = actions;
    this.#strings = strings;
    this.#markdown = user ? null : new MarkdownView(this.#body, strings);
    if (!user) this.#body.classList.add("prose");
    this.element = el(
      "article",
      { class: `message ${message.role}`, "aria-label": user ? strings.you : strings.assistant },
      this.#body,
      this.#foot,
    );
    if (user) this.#body.textContent = message.content;
    else this.#markdown?.update(message.content);
  }

  /** Shows the text so far of an answer that is being written. */
  grow(message: Message): void {
    this.#message = message;
    this.element.setAttribute("aria-busy", "true");
    this.#shownFoot = "";
    if (message.content !== "") this.#foot.replaceChildren();
    this.#markdown?.update(message.content);
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
    this.#markdown?.update(message.content);
    const { content, state, problem, stats, model } = message;
    const shown = JSON.stringify([redo, this.#actions.versions?.(message), content === "", state, problem, stats, model]);
    // What stays the same keeps its focus, and what was opened in it.
    if (shown === this.#shownFoot) return;
    this.#shownFoot = shown;
    this.#foot.replaceChildren(...(message.role === "user" ? this.#userFoot(redo) : this.#answerFoot(redo)));
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
    const { content, problem, state, stats } = this.#message;
    const note = problem ? null : endNote(state, content, this.#strings);
    const nodes: Node[] = note ? [el("p", { class: "note" }, note)] : [];
    if (problem) nodes.push(this.#problem(problem, redo === "now"));
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
    }
    if (stats) actions.append(statsView(stats, this.#message.model));
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
    box.append(el("div", { class: "buttons" }, again, this.#wayOut(problem)));
    return box;
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
    box.focus();
  }
}

function endNote(state: Message["state"], content: string, strings: ConversationStrings): string | null {
  if (state === "length") return strings.endedByLength;
  if (state === "abort") return content ? strings.stopped : strings.stoppedAtOnce;
  if (state === "open") return strings.interrupted;
  if (state === "tools") return strings.usesTools;
  return content === "" ? strings.emptyAnswer : null;
}

function statsView(stats: AnswerStats, model: string | undefined): HTMLElement {
  const { firstTokenSeconds, decodeTokensPerSecond, prefillTokensPerSecond, totalSeconds } = stats;
  const short = [
    firstTokenSeconds === null ? null : `${formatSeconds(firstTokenSeconds)} to first token`,
    decodeTokensPerSecond ? `${formatRate(decodeTokensPerSecond)} tokens/s` : null,
  ].filter((part) => part !== null);
  const summary = el("summary", {}, short.join(" · ") || formatCount(stats.answerTokens, "token"));
  const rows: [string, string | null][] = [
    ["Model", model ?? null],
    ["Prompt", `${formatCount(stats.promptTokens, "token")}, ${stats.cachedTokens} of them cached`],
    ["Answer", formatCount(stats.answerTokens, "token")],
    ["Reading", prefillTokensPerSecond ? `${formatRate(prefillTokensPerSecond)} tokens/s` : null],
    ["Writing", decodeTokensPerSecond ? `${formatRate(decodeTokensPerSecond)} tokens/s` : null],
    ["In all", totalSeconds === null ? null : formatSeconds(totalSeconds)],
  ];
  const list = el("dl");
  for (const [name, value] of rows) {
    if (value !== null) list.append(el("dt", {}, name), el("dd", {}, value));
  }
  summary.title = `${stats.cachedTokens} of ${formatCount(stats.promptTokens, "prompt token")} cached`;
  return el("details", { class: "stats" }, summary, list);
}
