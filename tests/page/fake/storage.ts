/** What a scripted browser keeps of models. */
import type { StoredBundle } from "../../../web/worker/shared/protocol.ts";
import type { EngineStorage } from "../../../web/worker/ui/engine.ts";

export interface StorageScript {
  /** Ids of bundles that are stored whole. */
  stored?: string[];
  /** Bytes of 2.4 MB that are stored, by the id of the bundle. */
  partial?: Record<string, number>;
  leftoverBytes?: number;
  /** A tab has a model loaded, so that leftovers stay. */
  modelsInUse?: boolean;
  persisted?: boolean;
  /** The browser keeps models only as long as it likes. */
  persistenceRefused?: boolean;
}

const TOTAL = 2_400_000;

export class FakeStorage implements EngineStorage {
  /** Bundles that the page deleted, or "leftovers". */
  readonly deleted: string[] = [];
  /** Bundles whose new version the page asked for. */
  readonly updated: string[] = [];
  persistenceRequests = 0;
  #bundles: StoredBundle[];
  #leftoverBytes: number;
  readonly #script: StorageScript;

  constructor(script: StorageScript) {
    this.#script = script;
    this.#leftoverBytes = script.leftoverBytes ?? 0;
    const whole = (script.stored ?? []).map((id) => bundle(id, TOTAL));
    this.#bundles = [...whole, ...Object.entries(script.partial ?? {}).map(([id, bytes]) => bundle(id, bytes))];
  }

  async list() {
    const leftovers = { files: this.#leftoverBytes > 0 ? 1 : 0, bytes: this.#leftoverBytes };
    return { bundles: this.#bundles, states: [], leftovers };
  }

  async delete(url: string) {
    this.deleted.push(url);
    this.#bundles = this.#bundles.filter(({ lockUrl }) => !lockUrl.startsWith(url));
    return { freedBytes: TOTAL, keptFiles: 0 };
  }

  async deleteLeftovers() {
    const { modelsInUse = false } = this.#script;
    if (modelsInUse) return { freedBytes: 0, modelsInUse };
    const freedBytes = this.#leftoverBytes;
    this.deleted.push("leftovers");
    this.#leftoverBytes = 0;
    return { freedBytes, modelsInUse };
  }

  async update(url: string) {
    this.updated.push(url);
  }

  async estimate() {
    return { usage: TOTAL, quota: 10_000_000_000, persisted: this.#script.persisted ?? false };
  }

  async requestPersistence() {
    this.persistenceRequests += 1;
    return !this.#script.persistenceRefused;
  }
}

function bundle(id: string, storedBytes: number): StoredBundle {
  return {
    lockUrl: new URL(`bundles/${id}/mlc-lock.json`, document.baseURI).href,
    id,
    modelType: "llama",
    quantization: "q4f16_1",
    contextWindowSize: 1024,
    totalBytes: TOTAL,
    storedBytes,
    offlineTargets: storedBytes === TOTAL ? ["webgpu-f32"] : [],
    update: null,
  };
}
