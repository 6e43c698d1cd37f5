/** Tells whether the page works without a network, and when a new version is here. */
import { byId } from "../ui/dom.ts";
import type { Notices } from "../ui/notices.ts";
import type { AppFiles } from "./dependencies.ts";
import { STRINGS } from "./strings.ts";

export class OfflineHint {
  readonly #files: AppFiles;
  readonly #line = byId("offline-state", HTMLElement);
  #controlled = false;
  #models = 0;

  constructor(files: AppFiles) {
    this.#files = files;
    for (const change of ["online", "offline"]) {
      window.addEventListener(change, () => this.#render());
    }
  }

  /** Registers the service worker; without one the page works all the same. */
  async start(notices: Notices): Promise<void> {
    const status = await this.#files.register();
    this.#controlled = status.state === "controlled";
    this.#files.onUpdateAvailable(() => {
      notices.show("update", {
        level: "info",
        text: STRINGS.pageUpdate,
        action: { text: STRINGS.reload, run: () => this.#files.applyUpdate() },
      });
    });
    this.#render();
  }

  /** `models` of them load without a network. */
  show(models: number): void {
    this.#models = models;
    this.#render();
  }

  #render(): void {
    const parts = [navigator.onLine ? null : STRINGS.offline, null as string | null];
    if (!this.#controlled) parts[1] = STRINGS.notOffline;
    else if (this.#models > 0) parts[1] = STRINGS.readyOffline;
    this.#line.textContent = parts.filter((part) => part !== null).join(" ");
  }
}
