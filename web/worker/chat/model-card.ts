/** The card above the message box: what the model needs, how its loading goes, what went wrong. */
import { button, byId, el } from "../ui/dom.ts";
import { formatBytes, formatBytesOf, formatSpeed } from "../ui/format.ts";
import type { Problem } from "../ui/types.ts";
import { keepDaemonKey } from "./daemon.ts";
import type { LoadProgress } from "./engine.ts";
import type { Models, ModelState } from "./models.ts";
import { webgpuHelp } from "./webgpu-help.ts";

export interface ModelCardActions {
  load(): void;
  cancel(): void;
  retry(): void;
  choose(): void;
}

export class ModelCard {
  readonly #card = byId("model-card", HTMLElement);
  readonly #actions: ModelCardActions;
  #shown = "";
  #text: HTMLElement | null = null;
  #progress: HTMLProgressElement | null = null;

  constructor(actions: ModelCardActions) {
    this.#actions = actions;
  }

  render(models: Models): void {
    const { state } = models;
    // Only what changes is touched while a model loads, so that "Cancel" keeps its focus.
    const key = `${state.kind} ${"bundle" in state ? state.bundle?.key : ""}`;
    if (key !== this.#shown || state.kind === "error") this.#rebuild(state, models.bundles.length);
    this.#shown = key;
    if (state.kind === "loading") this.#update(state.progress);
  }

  /** Moves the focus to what can be done about the model; false if there is nothing to do. */
  focus(): boolean {
    if (this.#card.hidden) return false;
    const buttons = [...this.#card.querySelectorAll("button")];
    const best = buttons.find(({ classList }) => classList.contains("primary")) ?? buttons[0];
    best?.focus();
    return best !== undefined;
  }

  #rebuild(state: ModelState, choices: number): void {
    this.#card.hidden = ["ready", "listing", "unloaded"].includes(state.kind);
    this.#card.classList.toggle("problem-card", state.kind === "error");
    this.#card.replaceChildren(...this.#content(state, choices));
  }

  #content(state: ModelState, choices: number): Node[] {
    if (state.kind === "idle") return [this.#offer(state)];
    if (state.kind === "checking") return [el("p", {}, `Checking this device for ${state.bundle.id} …`)];
    if (state.kind === "loading") return this.#loading(state.bundle.id);
    if (state.kind === "error") return this.#failure(state.problem, state.bundle !== null, choices);
    return [];
  }

  #offer({ bundle, fit }: ModelState & { kind: "idle" }): Node {
    const size = fit.downloadBytes > 0 ? fit.downloadBytes : bundle.bytes;
    const load = button({
      text: `Load (${formatBytes(size)})`,
      label: `Load ${bundle.id}, ${formatBytes(size)}`,
      className: "button primary",
      onClick: () => this.#actions.load(),
    });
    const about = `Downloads ${formatBytes(size)} once, then works offline. It needs ${formatBytes(fit.memoryBytes)} of GPU memory.`;
    const grow = el("div", { class: "grow" }, el("h2", {}, bundle.id), el("p", {}, about));
    return el("div", { class: "card-row" }, grow, this.#chooser(), load);
  }

  #loading(id: string): Node[] {
    this.#text = el("p", { class: "load-text", id: "load-text" }, "Starting …");
    this.#progress = el("progress", { max: "1", "aria-label": `Loading ${id}` });
    const cancel = button({
      text: "Cancel",
      label: "Cancel loading",
      className: "button small",
      onClick: () => this.#actions.cancel(),
    });
    const grow = el("div", { class: "grow" }, el("h2", {}, `Loading ${id}`), this.#text);
    return [el("div", { class: "card-row" }, grow, cancel), this.#progress];
  }

  #update(progress: LoadProgress | null): void {
    if (!this.#text || !this.#progress || !progress) return;
    this.#text.textContent = describeProgress(progress);
    const share = shareOf(progress);
    if (share === null) this.#progress.removeAttribute("value");
    else this.#progress.value = share;
  }

  #failure(problem: Problem, retriable: boolean, choices: number): Node[] {
    const title = el("h2", { class: "problem-title" }, problem.message);
    const buttons = el("div", { class: "card-row" });
    buttons.append(
      button({ icon: "retry", text: "Try again", className: "button", onClick: () => this.#actions.retry() }),
    );
    if (retriable && choices > 1) buttons.append(this.#chooser());
    const content: Node[] = [title, el("p", { class: "remedy" }, problem.remedy)];
    if (problem.code === "webgpu_unavailable") content.push(webgpuHelp());
    if (problem.code === "unauthorized") return [...content, this.#keyForm()];
    buttons.classList.add("help");
    return [...content, buttons];
  }

  #keyForm(): HTMLFormElement {
    const field = el("input", { type: "password", id: "daemon-key", class: "text", autocomplete: "off", required: "" });
    const label = el("label", { for: "daemon-key" }, "API key");
    const use = el("button", { class: "button primary", type: "submit" }, "Use this key");
    const form = el("form", { class: "card-row help" }, label, field, use, this.#chooser());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keepDaemonKey(field.value);
      this.#actions.retry();
    });
    return form;
  }

  #chooser(): HTMLButtonElement {
    return button({ text: "Other models", className: "button", onClick: () => this.#actions.choose() });
  }
}

const PRIVACY = {
  browser: "The model runs in this browser, on your own device. Nothing you type leaves it.",
  daemon: "The model runs on the machine that serves this page. What you type goes there and no further.",
};

/** Shows the state in the top bar's button, and where what people type goes. */
export function renderModelButton(state: ModelState): void {
  const bundle = "bundle" in state ? state.bundle : null;
  byId("privacy", HTMLElement).textContent = PRIVACY[bundle?.place ?? "browser"];
  byId("model-name", HTMLElement).textContent = bundle?.id ?? "Models";
  const words: Record<ModelState["kind"], string> = {
    listing: "",
    checking: "Checking",
    idle: "Not loaded",
    loading: "Loading",
    unloaded: "Not loaded",
    ready: bundle?.place === "daemon" ? "Ready on the host" : "Ready",
    error: "Problem",
  };
  byId("model-state", HTMLElement).textContent = words[state.kind];
}

/** "Downloading 1.2 of 2.4 MB · 3.1 MB/s" */
export function describeProgress(progress: LoadProgress): string {
  const { stage, loadedBytes, totalBytes, bytesPerSecond, done = 0, total = 0 } = progress;
  const bytes = formatBytesOf(loadedBytes, totalBytes);
  switch (stage) {
    case "check":
      return "Checking this device";
    case "download":
      return `Downloading ${bytes}${bytesPerSecond > 0 ? ` · ${formatSpeed(bytesPerSecond)}` : ""}`;
    case "library":
      return "Starting the model's library";
    case "upload":
      return `Copying to the GPU ${bytes}`;
    case "pipelines":
      return total > 0 ? `Preparing the GPU ${done} of ${total}` : "Preparing the GPU";
    case "self-test":
      return "Self-test";
    case "ready":
      return "Ready";
  }
}

function shareOf({ stage, loadedBytes, totalBytes, done, total }: LoadProgress): number | null {
  if ((stage === "download" || stage === "upload") && totalBytes > 0) return loadedBytes / totalBytes;
  if (stage === "pipelines" && total) return (done ?? 0) / total;
  return stage === "ready" ? 1 : null;
}

