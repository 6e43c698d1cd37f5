/** Tells whether the page works without a network, and when a new version is here. */
import { storedBundles } from "./bundles.ts";
import type { OfflineFiles } from "./dependencies.ts";
import { byId } from "./dom.ts";
import { formatBytes } from "./format.ts";
import type { Notices } from "./notices.ts";

export class OfflineHint {
  readonly #files: OfflineFiles;
  readonly #line = byId("offline-state", HTMLElement);
  #controlled = false;

  constructor(files: OfflineFiles) {
    this.#files = files;
    for (const change of ["online", "offline"]) {
      window.addEventListener(change, () => void this.refresh());
    }
  }

  /** Registers the service worker; without one the page works all the same. */
  async start(notices: Notices): Promise<void> {
    const status = await this.#files.register();
    this.#controlled = status.state === "controlled";
    this.#files.onUpdateAvailable(() => {
      notices.show("update", {
        level: "info",
        text: "A new version of this page is ready.",
        action: { text: "Reload", run: () => this.#files.applyUpdate() },
      });
    });
    await this.refresh();
  }

  async refresh(): Promise<void> {
    const models = this.#controlled ? (await storedBundles(this.#files)).size : 0;
    const parts = [navigator.onLine ? null : "You are offline.", null as string | null];
    if (models > 0) parts[1] = "Ready for offline use.";
    else if (!this.#controlled) parts[1] = "Models aren’t kept on this device for now.";
    this.#line.textContent = parts.filter((part) => part !== null).join(" ");
  }

  /** "2.4 MB of 10 GB used on this device." */
  async storageText(): Promise<string> {
    const { usage, quota, persisted } = await this.#files.storageEstimate();
    if (quota === 0) return "";
    const kept = persisted ? " The browser keeps it until you delete it." : "";
    return `This site uses ${formatBytes(usage)} of ${formatBytes(quota)} on this device.${kept}`;
  }
}
