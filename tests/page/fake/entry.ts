/** The chat page with a scripted engine and service worker, for tests. */
import { startChat } from "../../../web/worker/chat/app.ts";
import type { OfflineFiles } from "../../../web/worker/chat/dependencies.ts";
import { openStore } from "../../../web/worker/chat/store.ts";
import { FakeEngine, type Script } from "./engine.ts";

declare global {
  interface Window {
    /** Set before the page starts. */
    script?: Script & { stored?: string[]; uncontrolled?: boolean; persisted?: boolean };
    fake: {
      engine: FakeEngine;
      deleted: string[];
      announceUpdate(): void;
      updates: number;
      persistenceRequests: number;
    };
  }
}

const script = window.script ?? {};
const engine = new FakeEngine(script);
let stored = script.stored ?? [];
const onUpdate = new Set<(version: string) => void>();

window.fake = {
  engine,
  deleted: [],
  updates: 0,
  persistenceRequests: 0,
  announceUpdate: () => {
    for (const listener of onUpdate) listener("2");
  },
};

const files: OfflineFiles = {
  register: async () => ({ state: script.uncontrolled ? "uncontrolled" : "controlled", reason: null }),
  listStoredBundles: async () =>
    stored.map((id) => ({
      lockUrl: new URL(`bundles/${id}/mlc-lock.json`, document.baseURI).href,
      id,
      modelType: "llama",
      quantization: "q4f16_1",
      totalBytes: 2_400_000,
      storedBytes: 2_400_000,
      offlineTargets: ["webgpu-f32"],
    })),
  deleteBundle: async (lockUrl) => {
    window.fake.deleted.push(lockUrl);
    stored = stored.filter((id) => !lockUrl.includes(`/${id}/`));
    return { freedBytes: 2_400_000, keptFiles: 0 };
  },
  requestPersistence: async () => {
    window.fake.persistenceRequests += 1;
    return true;
  },
  storageEstimate: async () => ({
    usage: 2_400_000,
    quota: 10_000_000_000,
    persisted: script.persisted ?? false,
  }),
  onUpdateAvailable: (listener) => {
    onUpdate.add(listener);
    return () => onUpdate.delete(listener);
  },
  applyUpdate: () => {
    window.fake.updates += 1;
  },
};

await startChat({
  createEngine: () => engine,
  files,
  store: await openStore(),
  indexUrl: "bundles/index.json",
});
