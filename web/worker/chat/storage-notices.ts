/** Says aloud what the browser keeps of models and what it doesn't. */
import type { StorageEvent } from "../shared/protocol.ts";
import type { EngineStorage } from "../ui/engine.ts";
import { formatBytes } from "../ui/format.ts";
import type { Notices } from "../ui/notices.ts";
import { problemOf } from "../ui/problems.ts";
import { filled } from "../ui/strings.ts";
import { AUTOLOAD_BYTES } from "./models.ts";
import { STRINGS } from "./strings.ts";

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
    this.#notices.show("persistence", { level: "info", text: STRINGS.mayBeDeleted });
  }

  tell(event: StorageEvent): void {
    if (event.state === "memory-only") this.#tellUnkept(event);
    else if (event.state === "damaged") {
      this.#notices.toast(event.source === "cache" ? STRINGS.damagedHere : STRINGS.damagedOnItsWay);
    } else void this.#update(event);
  }

  /** How much of the browser's storage is used. */
  async summary(): Promise<string> {
    const { usage, quota, persisted } = await this.#storage().estimate();
    if (quota === 0) return "";
    const used = filled(STRINGS.storageUse, { used: formatBytes(usage), quota: formatBytes(quota) });
    return persisted ? `${used} ${STRINGS.storageKept}` : used;
  }

  #tellUnkept({ neededBytes, reason }: StorageEvent & { state: "memory-only" }): void {
    if (this.#fullTold) return;
    this.#fullTold = true;
    const texts: Record<typeof reason, string> = {
      deleted: STRINGS.unkeptDeleted,
      "no-room": STRINGS.unkeptNoRoom,
      denied: STRINGS.unkeptDenied,
    };
    this.#notices.show("storage-full", {
      level: "warning",
      text: filled(texts[reason], { size: formatBytes(neededBytes) }),
      action: { text: STRINGS.models, run: this.#openModels },
    });
  }

  async #update({ bundleUrl, id, neededBytes }: StorageEvent & { state: "update-available" }): Promise<void> {
    const download = async (): Promise<void> => {
      this.#notices.hide("model-update");
      try {
        await this.#storage().update(bundleUrl);
        this.#notices.toast(filled(STRINGS.modelUpdated, { model: id }));
      } catch (error) {
        const { message, remedy } = problemOf(error);
        this.#notices.toast(filled(STRINGS.modelNotUpdated, { model: id, problem: `${message} ${remedy}` }));
      }
    };
    if (neededBytes < AUTOLOAD_BYTES) return download();
    this.#notices.show("model-update", {
      level: "info",
      text: filled(STRINGS.modelUpdate, { model: id, size: formatBytes(neededBytes) }),
      action: { text: STRINGS.download, run: () => void download() },
    });
  }
}
