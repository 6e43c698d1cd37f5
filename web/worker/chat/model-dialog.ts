/** The dialog that lists models: what each costs, whether it is on this device, whether it fits. */
import { html, nothing, render } from "lit-html";
import { guard } from "lit-html/directives/guard.js";
import { repeat } from "lit-html/directives/repeat.js";
import { button, byId, el } from "../ui/dom.ts";
import type { FitReport } from "../ui/engine.ts";
import { formatBytes, formatBytesOf } from "../ui/format.ts";
import { counted, filled } from "../ui/strings.ts";
import type { Bundle } from "../ui/types.ts";
import type { Models } from "./models.ts";
import { STRINGS } from "./strings.ts";

export interface ModelDialogActions {
  use(bundle: Bundle): void;
  deleteFiles(bundle: Bundle): Promise<void>;
  /** Whether they could be deleted: not while a model is in use. */
  deleteLeftovers(): Promise<boolean>;
  check(bundle: Bundle): Promise<FitReport>;
  storageText(): Promise<string>;
}

export class ModelDialog {
  readonly #dialog = byId("models-dialog", HTMLDialogElement);
  readonly #list = byId("models", HTMLUListElement);
  readonly #storage = byId("models-storage", HTMLElement);
  readonly #models: Models;
  readonly #actions: ModelDialogActions;
  readonly #fits = new Map<string, FitReport>();
  #leftoversStay = false;

  constructor(models: Models, actions: ModelDialogActions) {
    this.#models = models;
    this.#actions = actions;
    models.onChange(() => {
      if (this.#dialog.open) this.#render();
    });
  }

  async open(): Promise<void> {
    this.#leftoversStay = false;
    this.#render();
    this.#dialog.showModal();
    await this.#models.refreshStored();
    await this.#showStorage();
    for (const bundle of this.#models.bundles) await this.#checkFit(bundle);
  }

  async #checkFit(bundle: Bundle): Promise<void> {
    if (this.#fits.has(bundle.key)) return;
    try {
      this.#fits.set(bundle.key, await this.#actions.check(bundle));
      if (this.#dialog.open) this.#render();
    } catch {
      // Choosing the model shows what is wrong with it.
    }
  }

  async #showStorage(): Promise<void> {
    this.#storage.textContent = await this.#actions.storageText();
  }

  #render(): void {
    const focused = document.activeElement?.id;
    const bundles = [...this.#models.bundles, ...this.#models.unlisted];
    const items = repeat(bundles, ({ key }) => key, (bundle) => guard([this.#look(bundle)], () => this.#item(bundle)));
    const none = bundles.length === 0 ? html`<li>${STRINGS.noModels}</li>` : nothing;
    const { files, bytes } = this.#models.stored.leftovers;
    const leftovers = files > 0 ? guard([bytes, this.#leftoversStay], () => this.#leftovers()) : nothing;
    render(html`${items}${none}${leftovers}`, this.#list);
    if (focused?.startsWith("model-")) document.getElementById(focused)?.focus();
  }

  #isChosen({ key }: Bundle): boolean {
    const { state } = this.#models;
    return "bundle" in state && state.bundle?.key === key;
  }

  /** All that an entry shows: it stays as it is until that changes, and with it focus and what is pressed. */
  #look(bundle: Bundle): string {
    const state = this.#isChosen(bundle) && this.#models.state.kind;
    const isStored = this.#models.storedPart(bundle) !== null;
    const isOffered = this.#models.bundles.includes(bundle);
    const problem = this.#fits.get(bundle.key)?.problems[0];
    return JSON.stringify([state, this.#place(bundle), this.#facts(bundle), isOffered, isStored, problem]);
  }

  #item(bundle: Bundle): HTMLLIElement {
    const chosen = this.#isChosen(bundle);
    const place = this.#place(bundle);
    const badge = place ? el("span", { class: "badge" }, place) : null;
    const head = el("div", { class: "card-row" }, el("h3", {}, bundle.id), badge);
    const item = el("li", { class: chosen ? "model current" : "model" }, head);
    item.append(el("p", { class: "hint" }, this.#facts(bundle)));
    if (!this.#models.bundles.includes(bundle)) {
      item.append(el("p", { class: "hint" }, STRINGS.notOffered));
    }
    const problem = this.#fits.get(bundle.key)?.problems[0];
    if (problem) item.append(el("p", { class: "unfit" }, `${problem.message} ${problem.remedy}`));
    item.append(this.#buttons(bundle, chosen));
    return item;
  }

  #place(bundle: Bundle): string | null {
    if (bundle.place === "daemon") return STRINGS.answeredByHost;
    if (this.#models.isStored(bundle)) return STRINGS.onThisDevice;
    const part = this.#models.storedPart(bundle);
    if (!part?.storedBytes) return null;
    return filled(STRINGS.partOnThisDevice, formatBytesOf(part.storedBytes, part.totalBytes));
  }

  #leftovers(): HTMLLIElement {
    const { bytes } = this.#models.stored.leftovers;
    const item = el("li", { class: "model" }, el("h3", {}, STRINGS.leftovers));
    item.append(el("p", { class: "hint" }, filled(STRINGS.leftoversSize, { size: formatBytes(bytes) })));
    if (this.#leftoversStay) item.append(el("p", { class: "unfit", role: "status" }, STRINGS.leftoversStay));
    const remove = this.#deleteButton("leftovers", STRINGS.leftoversName, async () => {
      this.#leftoversStay = !(await this.#actions.deleteLeftovers());
      this.#render();
    });
    item.append(el("div", { class: "buttons" }, remove));
    return item;
  }

  #facts(bundle: Bundle): string {
    const memory = this.#fits.get(bundle.key)?.memoryBytes;
    const size = formatBytes(bundle.bytes);
    const cost = this.#models.isStored(bundle) ? size : filled(STRINGS.toDownload, { size });
    return [
      bundle.bytes > 0 ? cost : null,
      memory ? filled(STRINGS.gpuMemory, { size: formatBytes(memory) }) : null,
      bundle.contextWindowSize > 0
        ? filled(STRINGS.contextOf, { tokens: counted(STRINGS.tokens, bundle.contextWindowSize) })
        : null,
      bundle.quantization || null,
    ]
      .filter((fact) => fact !== null)
      .join(" · ");
  }

  #buttons(bundle: Bundle, chosen: boolean): HTMLElement {
    const { state } = this.#models;
    const row = el("div", { class: "buttons" });
    const busy = chosen && (state.kind === "ready" || state.kind === "loading" || state.kind === "checking");
    if (busy) {
      row.append(el("span", { class: "badge" }, state.kind === "ready" ? STRINGS.inUse : STRINGS.modelLoading));
    } else {
      const label = bundle.place === "daemon" ? STRINGS.useModelOfHost : STRINGS.useModelNamed;
      const use = button({
        text: STRINGS.useModel,
        label: filled(label, { model: bundle.id }),
        className: "button small primary",
        onClick: () => {
          this.#dialog.close();
          this.#actions.use(bundle);
        },
      });
      use.id = `model-use-${bundle.key}`;
      row.append(use);
    }
    if (this.#models.storedPart(bundle)) {
      row.append(this.#deleteButton(bundle.key, bundle.id, () => this.#actions.deleteFiles(bundle)));
    }
    return row;
  }

  #deleteButton(key: string, name: string, run: () => Promise<void>): HTMLButtonElement {
    const remove = button({
      icon: "trash",
      text: STRINGS.deleteFiles,
      label: filled(STRINGS.deleteFilesOf, { model: name }),
      className: "button small danger",
      onClick: async () => {
        remove.disabled = true;
        await run();
        remove.disabled = false;
        await this.#showStorage();
        byId("models-dialog", HTMLDialogElement).querySelector("button")?.focus();
      },
    });
    remove.id = `model-delete-${key}`;
    return remove;
  }
}
