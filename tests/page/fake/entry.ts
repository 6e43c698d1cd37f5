/** The chat page with a scripted engine and service worker, for tests. */
import { startChat } from "../../../web/worker/chat/app.ts";
import type { AppFiles } from "../../../web/worker/chat/dependencies.ts";
import { openStore } from "../../../web/worker/chat/store.ts";
import { FakeEngine, type Script } from "./engine.ts";

declare global {
  interface Window {
    /** Set before the page starts. */
    script?: Script & { uncontrolled?: boolean };
    fake: {
      engine: FakeEngine;
      announceUpdate(): void;
      updates: number;
    };
  }
}

const script = window.script ?? {};
const engine = new FakeEngine(script);
const onUpdate = new Set<(version: string) => void>();

window.fake = {
  engine,
  updates: 0,
  announceUpdate: () => {
    for (const listener of onUpdate) listener("2");
  },
};

const files: AppFiles = {
  register: async () => ({ state: script.uncontrolled ? "uncontrolled" : "controlled", reason: null }),
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
