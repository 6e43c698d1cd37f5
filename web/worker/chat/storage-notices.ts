/** Says aloud what the browser keeps of models and what it doesn't. */
import { formatBytes } from "../ui/format.ts";
import type { Notices } from "../ui/notices.ts";
import { problemOf } from "../ui/problems.ts";
import type { EngineStorage, StorageEvent } from "./engine.ts";
import { AUTOLOAD_BYTES } from "./models.ts";

export class StorageNotices {
  readonly #notices: Notices;
  readonly #storage: () => EngineStorage;
  readonly #openModels: () => void;
  /** Of the files of one load, the first that isn't kept is enough to tell. */
  #fullTold = false;

  constructor(notices: Notices, storage: () => EngineStorage, openModels: () => void) {
    this.#notices = notices;
    this.#storage = storage;
    this.#openModels = openModels;
  }

  /** A load begins. */
  begin(): void {
    this.#fullTold = false;
    this.#notices.hide("storage-full");
  }

  /** Asks to keep models for good; on a click, as browsers want it. */
  async askToKeep(): Promise<void> {
    if (await this.#storage().requestPersistence()) return this.#notices.hide("persistence");
    const text = "This browser may delete stored models when its disk fills up: it didn’t promise to keep them.";
    this.#notices.show("persistence", { level: "info", text });
  }

  tell(event: StorageEvent): void {
    if (event.state === "memory-only") this.#tellUnkept(event);
    else if (event.state === "damaged") {
      const where = event.source === "cache" ? "on this device" : "on its way";
      this.#notices.toast(`A file of the model was damaged ${where}; it is downloaded again.`);
    } else void this.#update(event);
  }

  /** "This site uses 2.4 MB of 10 GB on this device." */
  async summary(): Promise<string> {
    const { usage, quota, persisted } = await this.#storage().estimate();
    if (quota === 0) return "";
    const kept = persisted ? " The browser keeps it until you delete it." : "";
    return `This site uses ${formatBytes(usage)} of ${formatBytes(quota)} on this device.${kept}`;
  }

  #tellUnkept({ neededBytes, reason }: StorageEvent & { state: "memory-only" }): void {
    if (this.#fullTold) return;
    this.#fullTold = true;
    const size = formatBytes(neededBytes);
    const why: Record<typeof reason, string> = {
      deleted: `This model was deleted from this device while it is in use (${size})`,
      "no-room": `The browser has no room to keep this model (${size} didn’t fit)`,
      denied: `This browser doesn’t let this page keep the model (${size})`,
    };
    this.#notices.show("storage-full", {
      level: "warning",
      text: `${why[reason]}: it works now, and is downloaded again at the next visit.`,
      action: { text: "Models", run: this.#openModels },
    });
  }

  async #update({ bundleUrl, id, neededBytes }: StorageEvent & { state: "update-available" }): Promise<void> {
    const download = async (): Promise<void> => {
      this.#notices.hide("model-update");
      try {
        await this.#storage().update(bundleUrl);
        this.#notices.toast(`The new version of ${id} is here: it is used when the page is opened again.`);
      } catch (error) {
        const { message, remedy } = problemOf(error);
        this.#notices.toast(`The new version of ${id} could not be stored. ${message} ${remedy}`);
      }
    };
    if (neededBytes < AUTOLOAD_BYTES) return download();
    this.#notices.show("model-update", {
      level: "info",
      text: `There is a new version of ${id} (${formatBytes(neededBytes)}). The one on this device works until it is here.`,
      action: { text: "Download", run: () => void download() },
    });
  }
}
