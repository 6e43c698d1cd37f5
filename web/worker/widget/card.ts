/** What a person must know or decide before there are answers. */
import type { LoadProgress } from "../shared/protocol.ts";
import { button, byId, el, type Root } from "../ui/dom.ts";
import { formatBytes } from "../ui/format.ts";
import { filled } from "../ui/strings.ts";
import type { Problem } from "../ui/types.ts";
import type { BackendState } from "./backends.ts";
import { readable } from "./problem-text.ts";
import type { Language } from "./strings/launcher.ts";
import type { WidgetStrings } from "./strings/table.ts";
import type { DeviceFit } from "./types.ts";

export interface CardActions {
  load(): void;
  pause(): void;
  cancel(): void;
  retry(): void;
  /** Lets the server answer. */
  agree(): void;
  /** Takes the focus where there is nothing to do here. */
  leave(): void;
}

export class Card {
  readonly #card: HTMLElement;
  readonly #strings: WidgetStrings;
  readonly #language: Language;
  readonly #actions: CardActions;
  #shown = "";
  #fallback: string | null = null;
  #title: HTMLElement | null = null;
  #text: HTMLElement | null = null;
  #progress: HTMLProgressElement | null = null;
  #pause: HTMLButtonElement | null = null;

  constructor(root: Root, strings: WidgetStrings, language: Language, actions: CardActions) {
    this.#card = byId("card", HTMLElement, root);
    this.#strings = strings;
    this.#language = language;
    this.#actions = actions;
  }

  /** `fallback` is the server that may answer where this device can't. */
  render(state: BackendState, fallback: string | null = null): void {
    this.#fallback = fallback;
    // Only what changes is touched while a model loads, so that "Pause" keeps its focus.
    if (state.kind !== this.#shown || state.kind === "error") this.#rebuild(state);
    this.#shown = state.kind;
    if (state.kind === "loading") this.#update(state.progress);
  }

  /** What it says, for those who can't see it. */
  get text(): string {
    return [...this.#card.querySelectorAll("h2, p")].map(({ textContent }) => textContent).join(" ");
  }

  /** Moves the focus to what can be done; false if there is nothing to do. */
  focus(): boolean {
    const first = this.#card.hidden ? null : this.#card.querySelector<HTMLElement>("button:not([hidden])");
    first?.focus();
    return first !== null;
  }

  #rebuild(state: BackendState): void {
    const focused = this.#card.matches(":focus-within");
    this.#card.hidden = state.kind === "ready" || state.kind === "idle";
    this.#card.classList.toggle("problem-card", state.kind === "error" || state.kind === "elsewhere");
    this.#card.replaceChildren(...this.#content(state));
    if (focused && !this.focus()) this.#actions.leave();
  }

  #content(state: BackendState): Node[] {
    const { checking } = this.#strings;
    if (state.kind === "checking") return [el("p", {}, checking)];
    if (state.kind === "consent") return this.#consent(state.fit);
    if (state.kind === "loading") return this.#loading();
    if (state.kind === "paused") return this.#paused(state.progress);
    if (state.kind === "elsewhere") return this.#elsewhere(state.problem, state.host);
    if (state.kind === "error") return this.#failure(state.problem);
    return [];
  }

  #consent(fit: DeviceFit): Node[] {
    const { consentTitle, consentText, consentUnkept, download, exception } = this.#strings;
    const size = formatBytes(fit.missingBytes, this.#language);
    const text = filled(isKept(fit) ? consentText : consentUnkept, { size });
    const load = this.#button(filled(download, { size }), () => this.#actions.load(), "button primary");
    const slot = el("slot", { name: "consent" }, el("p", {}, text));
    if (this.#fallback !== null) slot.append(el("p", {}, filled(exception, { host: this.#fallback })));
    return [el("h2", {}, consentTitle), slot, el("div", { class: "card-row" }, load)];
  }

  #loading(): Node[] {
    const { preparing, downloading, pause, cancel } = this.#strings;
    this.#title = el("h2", {}, preparing);
    this.#text = el("p", { class: "load-text" });
    this.#progress = el("progress", { max: "1", "aria-label": downloading });
    this.#pause = this.#button(pause, () => this.#actions.pause());
    const stop = this.#button(cancel, () => this.#actions.cancel());
    const buttons = el("div", { class: "card-row" }, this.#pause, stop);
    return [this.#title, this.#text, this.#progress, buttons];
  }

  #update(progress: LoadProgress | null): void {
    if (!progress || !this.#title || !this.#text || !this.#progress || !this.#pause) return;
    const { loadedBytes, totalBytes, stage } = progress;
    const downloads = stage === "download" && totalBytes > 0;
    this.#title.textContent = downloads ? this.#strings.downloading : this.#strings.preparing;
    this.#text.textContent = downloads ? this.#bytes(progress) : "";
    this.#text.hidden = !downloads;
    const focused = this.#pause.matches(":focus");
    this.#pause.hidden = !downloads;
    if (focused && !downloads) this.focus();
    const share = downloads || stage === "upload" ? loadedBytes / totalBytes : shareDone(progress);
    if (Number.isFinite(share)) this.#progress.value = share;
    else this.#progress.removeAttribute("value");
  }

  #paused(progress: LoadProgress | null): Node[] {
    const { paused, resume, cancel } = this.#strings;
    const text = progress?.totalBytes ? el("p", { class: "load-text" }, this.#bytes(progress)) : null;
    const go = this.#button(resume, () => this.#actions.load(), "button primary");
    const stop = this.#button(cancel, () => this.#actions.cancel());
    const nodes: (Node | null)[] = [el("h2", {}, paused), text, el("div", { class: "card-row" }, go, stop)];
    return nodes.filter((node) => node !== null);
  }

  #elsewhere(problem: Problem, host: string): Node[] {
    const { elsewhere, askElsewhere } = this.#strings;
    const title = el("h2", { class: "problem-title" }, readable(problem, this.#strings).message);
    const agree = this.#button(filled(askElsewhere, { host }), () => this.#actions.agree(), "button primary");
    const buttons = el("div", { class: "card-row" }, agree, this.#again());
    return [title, el("p", { class: "remedy" }, filled(elsewhere, { host })), buttons];
  }

  #failure(problem: Problem): Node[] {
    const { message, remedy } = readable(problem, this.#strings);
    const { details } = this.#strings;
    const technical = el("details", { class: "help" }, el("summary", {}, details), el("p", { dir: "auto" }, problem.message));
    const title = el("h2", { class: "problem-title" }, message);
    // The same attributes give the same again.
    const again = problem.code === "invalid_request" ? null : el("div", { class: "card-row help" }, this.#again());
    return [title, el("p", { class: "remedy" }, remedy), technical, ...(again ? [again] : [])];
  }

  #again(): HTMLButtonElement {
    const { tryAgain: text } = this.#strings;
    return button({ icon: "retry", text, className: "button", onClick: () => this.#actions.retry() });
  }

  #bytes({ loadedBytes, totalBytes }: LoadProgress): string {
    const loaded = formatBytes(loadedBytes, this.#language);
    return filled(this.#strings.downloaded, { loaded, total: formatBytes(totalBytes, this.#language) });
  }

  #button(text: string, onClick: () => void, className = "button"): HTMLButtonElement {
    return button({ text, className, onClick });
  }
}

function isKept({ storage, problems }: DeviceFit): boolean {
  return storage.available && problems.every(({ code }) => code !== "quota_exceeded");
}

/** NaN where nobody knows. */
function shareDone({ done, total, stage }: LoadProgress): number {
  if (stage === "ready") return 1;
  return total ? (done ?? 0) / total : Number.NaN;
}
