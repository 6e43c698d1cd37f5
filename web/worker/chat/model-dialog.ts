/** The dialog that lists models: what each costs, whether it is on this device, whether it fits. */
import { button, byId, el } from "../ui/dom.ts";
import { formatBytes, formatBytesOf, formatCount } from "../ui/format.ts";
import type { Bundle } from "../ui/types.ts";
import type { FitReport } from "./engine.ts";
import type { Models } from "./models.ts";

const LEFTOVERS_STAY =
  "Not deleted: a model is in use, in this tab or another. They go by themselves when a model is loaded while no other tab has one.";

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
    this.#list.replaceChildren(...bundles.map((bundle) => this.#item(bundle)));
    if (bundles.length === 0) this.#list.append(el("li", {}, "No models found."));
    if (this.#models.stored.leftovers.files > 0) this.#list.append(this.#leftovers());
    if (focused?.startsWith("model-")) document.getElementById(focused)?.focus();
  }

  #item(bundle: Bundle): HTMLLIElement {
    const { state } = this.#models;
    const chosen = "bundle" in state && state.bundle?.key === bundle.key;
    const place = this.#place(bundle);
    const badge = place ? el("span", { class: "badge" }, place) : null;
    const head = el("div", { class: "card-row" }, el("h3", {}, bundle.id), badge);
    const item = el("li", { class: chosen ? "model current" : "model" }, head);
    item.append(el("p", { class: "hint" }, this.#facts(bundle)));
    if (!this.#models.bundles.includes(bundle)) {
      item.append(el("p", { class: "hint" }, "This host doesn’t offer it any more."));
    }
    const problem = this.#fits.get(bundle.key)?.problems[0];
    if (problem) item.append(el("p", { class: "unfit" }, `${problem.message} ${problem.remedy}`));
    item.append(this.#buttons(bundle, chosen));
    return item;
  }

  #place(bundle: Bundle): string | null {
    if (bundle.place === "daemon") return "Answered by the host";
    if (this.#models.isStored(bundle)) return "On this device";
    const part = this.#models.storedPart(bundle);
    return part && part.storedBytes > 0 ? `${formatBytesOf(part.storedBytes, part.totalBytes)} on this device` : null;
  }

  #leftovers(): HTMLLIElement {
    const { bytes } = this.#models.stored.leftovers;
    const item = el("li", { class: "model" }, el("h3", {}, "Leftover files"));
    item.append(el("p", { class: "hint" }, `${formatBytes(bytes)} that belong to no model`));
    if (this.#leftoversStay) item.append(el("p", { class: "unfit", role: "status" }, LEFTOVERS_STAY));
    const remove = this.#deleteButton("leftovers", "leftover files", async () => {
      this.#leftoversStay = !(await this.#actions.deleteLeftovers());
      this.#render();
    });
    item.append(el("div", { class: "buttons" }, remove));
    return item;
  }

  #facts(bundle: Bundle): string {
    const memory = this.#fits.get(bundle.key)?.memoryBytes;
    return [
      bundle.bytes > 0 ? `${formatBytes(bundle.bytes)} to download` : null,
      memory ? `${formatBytes(memory)} of GPU memory` : null,
      bundle.contextWindowSize > 0 ? `context of ${formatCount(bundle.contextWindowSize, "token")}` : null,
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
      row.append(el("span", { class: "badge" }, state.kind === "ready" ? "In use" : "Loading"));
    } else {
      const use = button({
        text: "Use this model",
        label: `Use this model: ${bundle.id}${bundle.place === "daemon" ? ", answered by the host" : ""}`,
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
      text: "Delete from this device",
      label: `Delete from this device: ${name}`,
      className: "button small danger",
      onClick: async () => {
        remove.disabled = true;
        await run();
        await this.#showStorage();
        byId("models-dialog", HTMLDialogElement).querySelector("button")?.focus();
      },
    });
    remove.id = `model-delete-${key}`;
    return remove;
  }
}
