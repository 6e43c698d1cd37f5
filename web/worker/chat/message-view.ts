/** One message on the page. */
import { button, el } from "./dom.ts";
import { formatCount, formatRate, formatSeconds } from "./format.ts";
import { MarkdownView } from "./markdown.ts";
import type { AnswerStats, Message, Problem } from "./types.ts";

export interface MessageActions {
  copy(message: Message): void;
  regenerate(): void;
  edit(message: Message, text: string): void;
  newChat(): void;
  chooseModel(): void;
}

export class MessageView {
  readonly element: HTMLElement;
  readonly #body = el("div", { class: "body" });
  readonly #foot = el("div");
  readonly #actions: MessageActions;
  readonly #markdown: MarkdownView | null;
  #message: Message;

  constructor(message: Message, actions: MessageActions) {
    const user = message.role === "user";
    this.#message = message;
    this.#actions = actions;
    this.#markdown = user ? null : new MarkdownView(this.#body);
    if (!user) this.#body.classList.add("prose");
    this.element = el(
      "article",
      { class: `message ${message.role}`, "aria-label": user ? "You" : "Assistant" },
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
    if (message.content !== "") this.#foot.replaceChildren();
    this.#markdown?.update(message.content);
  }

  /** Shows why there is no text yet. */
  wait(reason: string): void {
    this.element.setAttribute("aria-busy", "true");
    this.#foot.replaceChildren(el("span", { class: "waiting" }, reason));
  }

  /** Shows a message that won't change by itself; only the last ones can be redone. */
  settle(message: Message, redo: boolean): void {
    this.#message = message;
    this.element.removeAttribute("aria-busy");
    this.#markdown?.update(message.content);
    this.#foot.replaceChildren(...(message.role === "user" ? this.#userFoot(redo) : this.#answerFoot(redo)));
  }

  #userFoot(redo: boolean): Node[] {
    if (!redo) return [];
    const edit = button({
      icon: "edit",
      text: "Edit",
      label: "Edit message",
      className: "button quiet small",
      onClick: () => this.#edit(),
    });
    return [el("div", { class: "actions" }, edit)];
  }

  #answerFoot(redo: boolean): Node[] {
    const { content, problem, state, stats } = this.#message;
    const note = problem ? null : endNote(state, content);
    const nodes: Node[] = note ? [el("p", { class: "note" }, note)] : [];
    if (problem) nodes.push(this.#problem(problem, redo));
    const actions = el("div", { class: "actions" });
    const small = "button quiet small";
    if (content !== "") {
      const copy = () => this.#actions.copy(this.#message);
      actions.append(button({ icon: "copy", text: "Copy", label: "Copy answer", className: small, onClick: copy }));
    }
    if (redo && !problem) {
      const again = () => this.#actions.regenerate();
      actions.append(button({ icon: "retry", text: "Regenerate", className: small, onClick: again }));
    }
    if (stats) actions.append(statsView(stats, this.#message.model));
    return actions.childElementCount > 0 ? [...nodes, actions] : nodes;
  }

  #problem(problem: Problem, redo: boolean): HTMLElement {
    const box = el("div", { class: "problem" }, el("p", {}, el("strong", {}, problem.message)));
    box.append(el("p", {}, problem.remedy));
    if (!redo) return box;
    const again = button({
      icon: "retry",
      text: "Try again",
      className: "button small",
      onClick: () => this.#actions.regenerate(),
    });
    const way =
      problem.code === "context_length_exceeded"
        ? button({ text: "New chat from here", className: "button small", onClick: () => this.#actions.newChat() })
        : button({ text: "Other models", className: "button small", onClick: () => this.#actions.chooseModel() });
    box.append(el("div", { class: "buttons" }, again, way));
    return box;
  }

  #edit(): void {
    const before = [this.#body, this.#foot];
    const box = el("textarea", { "aria-label": "Edit message" });
    const cancel = () => {
      this.element.replaceChildren(...before);
      this.#foot.querySelector("button")?.focus();
    };
    const send = () => {
      if (box.value.trim()) this.#actions.edit(this.#message, box.value.trim());
    };
    box.value = this.#message.content;
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") cancel();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    const buttons = el("div", { class: "buttons" });
    buttons.append(button({ text: "Cancel", className: "button small", onClick: cancel }));
    buttons.append(button({ text: "Send again", className: "button small primary", onClick: send }));
    this.element.replaceChildren(el("div", { class: "edit" }, box, buttons));
    box.focus();
  }
}

function endNote(state: Message["state"], content: string): string | null {
  if (state === "length") return "The answer reached its longest allowed length.";
  if (state === "abort") return content ? "Stopped." : "Stopped before the first word.";
  if (state === "open") return "Interrupted: the page was closed while this was written.";
  return content === "" ? "The model answered with nothing." : null;
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
