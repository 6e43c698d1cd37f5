/** The card above the message box: what the model needs, how its loading goes, what went wrong. */
import type { LoadProgress } from "../shared/protocol.ts";
import { button, byId, el } from "../ui/dom.ts";
import { formatBytes, formatBytesOf, formatSpeed } from "../ui/format.ts";
import { filled } from "../ui/strings.ts";
import type { Problem } from "../ui/types.ts";
import { keepDaemonKey } from "./daemon.ts";
import type { Models, ModelState } from "./models.ts";
import { STRINGS } from "./strings.ts";

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
    // Only what changes is touched, so that "Cancel" keeps its focus, and a field what is typed.
    const key = JSON.stringify([
      state.kind,
      "bundle" in state && state.bundle?.key,
      state.kind === "error" && [state.problem, models.bundles.length > 1],
    ]);
    if (key !== this.#shown) this.#rebuild(state, models.bundles.length);
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
    if (state.kind === "checking") return [el("p", {}, filled(STRINGS.checkingDevice, { model: state.bundle.id }))];
    if (state.kind === "loading") return this.#loading(state.bundle.id);
    if (state.kind === "error") return this.#failure(state.problem, state.bundle !== null, choices);
    return [];
  }

  #offer({ bundle, fit }: ModelState & { kind: "idle" }): Node {
    const size = formatBytes(fit.downloadBytes > 0 ? fit.downloadBytes : bundle.bytes);
    const load = button({
      text: filled(STRINGS.load, { size }),
      label: filled(STRINGS.loadModel, { model: bundle.id, size }),
      className: "button primary",
      onClick: () => this.#actions.load(),
    });
    const about = filled(STRINGS.loadCosts, { size, memory: formatBytes(fit.memoryBytes) });
    const grow = el("div", { class: "grow" }, el("h2", {}, bundle.id), el("p", {}, about));
    return el("div", { class: "card-row" }, grow, el("div", { class: "card-row" }, this.#chooser(), load));
  }

  #loading(model: string): Node[] {
    const loading = filled(STRINGS.loading, { model });
    this.#text = el("p", { class: "load-text", id: "load-text" }, STRINGS.starting);
    this.#progress = el("progress", { max: "1", "aria-label": loading });
    const cancel = button({
      text: STRINGS.cancel,
      label: STRINGS.cancelLoading,
      className: "button small",
      onClick: () => this.#actions.cancel(),
    });
    const grow = el("div", { class: "grow" }, el("h2", {}, loading), this.#text);
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
      button({ icon: "retry", text: STRINGS.tryAgain, className: "button", onClick: () => this.#actions.retry() }),
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
    const label = el("label", { for: "daemon-key" }, STRINGS.apiKey);
    const use = el("button", { class: "button primary", type: "submit" }, STRINGS.useKey);
    const form = el("form", { class: "card-row help" }, label, field, use, this.#chooser());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keepDaemonKey(field.value);
      this.#actions.retry();
    });
    return form;
  }

  #chooser(): HTMLButtonElement {
    return button({ text: STRINGS.otherModels, className: "button", onClick: () => this.#actions.choose() });
  }
}

const PRIVACY = { browser: STRINGS.privateHere, daemon: STRINGS.privateOnHost };

/** Shows the state in the top bar's button, and where what people type goes. */
export function renderModelButton(state: ModelState): void {
  const bundle = "bundle" in state ? state.bundle : null;
  byId("privacy", HTMLElement).textContent = PRIVACY[bundle?.place ?? "browser"];
  byId("model-name", HTMLElement).textContent = bundle?.id ?? STRINGS.models;
  const words: Record<ModelState["kind"], string> = {
    listing: "",
    checking: STRINGS.modelChecking,
    idle: STRINGS.modelNotLoaded,
    loading: STRINGS.modelLoading,
    unloaded: STRINGS.modelNotLoaded,
    ready: bundle?.place === "daemon" ? STRINGS.modelReadyOnHost : STRINGS.modelReady,
    error: STRINGS.modelProblem,
  };
  byId("model-state", HTMLElement).textContent = words[state.kind];
}

/** "Downloading 1.2 of 2.4 MB · 3.1 MB/s" */
export function describeProgress(progress: LoadProgress): string {
  const { stage, loadedBytes, totalBytes, bytesPerSecond, done = 0, total = 0 } = progress;
  const bytes = formatBytesOf(loadedBytes, totalBytes);
  switch (stage) {
    case "check":
      return STRINGS.stageCheck;
    case "download":
      return bytesPerSecond > 0
        ? filled(STRINGS.stageDownloadAt, { ...bytes, speed: formatSpeed(bytesPerSecond) })
        : filled(STRINGS.stageDownload, bytes);
    case "library":
      return STRINGS.stageLibrary;
    case "upload":
      return filled(STRINGS.stageUpload, bytes);
    case "pipelines":
      return total > 0
        ? filled(STRINGS.stagePipelinesOf, { done: String(done), total: String(total) })
        : STRINGS.stagePipelines;
    case "self-test":
      return STRINGS.stageSelfTest;
    case "ready":
      return STRINGS.stageReady;
  }
}

function shareOf({ stage, loadedBytes, totalBytes, done, total }: LoadProgress): number | null {
  if ((stage === "download" || stage === "upload") && totalBytes > 0) return loadedBytes / totalBytes;
  if (stage === "pipelines" && total) return (done ?? 0) / total;
  return stage === "ready" ? 1 : null;
}

/** What people can do when their browser offers no WebGPU. */
function webgpuHelp(): HTMLElement {
  const list = el("ul", {}, ...STRINGS.browsers.map((text) => el("li", {}, text)));
  if (!window.isSecureContext) list.prepend(el("li", {}, STRINGS.insecure));
  const details = el("details", { class: "help" }, el("summary", {}, STRINGS.whichBrowsers), list);
  details.open = !window.isSecureContext;
  return el("div", {}, details, el("p", { class: "remedy" }, STRINGS.conversationsStay));
}
