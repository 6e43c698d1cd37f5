/** The chat page with a scripted engine and service worker, for tests. */
import { startChat } from "../../../web/worker/chat/app.ts";
import type { AppFiles } from "../../../web/worker/chat/dependencies.ts";
import { openStore } from "../../../web/worker/chat/store.ts";
import { ENGLISH } from "../../../web/worker/ui/strings.ts";
import { watched } from "./busy-store.ts";
import { FakeEngine, type Script } from "./engine.ts";

declare global {
  interface Window {
    /** Set before the page starts. */
    script?: Script & { uncontrolled?: boolean; hangingRegistration?: boolean };
    fake: {
      engine: FakeEngine;
      announceUpdate(): void;
      /** Ends a registration that hangs. */
      register(): void;
      updates: number;
      /** Whether the page still reads or writes conversations. */
      isStoreBusy(): boolean;
      /** What an answer shows after each of its beginnings: as it grows, and as the whole of it. */
      streamed(text: string): Promise<{ grown: string; whole: string }[]>;
    };
  }
}

const script = window.script ?? {};
const engine = new FakeEngine(script);
const registration = Promise.withResolvers<void>();
if (!script.hangingRegistration) registration.resolve();
const { store, isBusy } = watched(await openStore());
const onUpdate = new Set<(version: string) => void>();

window.fake = {
  engine,
  register: registration.resolve,
  updates: 0,
  isStoreBusy: isBusy,
  streamed: async (text) => {
    const { MarkdownView } = await import("../../../web/worker/ui/markdown.ts");
    const growing = document.createElement("div");
    const view = new MarkdownView(growing, ENGLISH);
    return [...text].map((_, at, characters) => {
      const beginning = characters.slice(0, at + 1).join("");
      view.update(beginning);
      const whole = document.createElement("div");
      new MarkdownView(whole, ENGLISH).update(beginning);
      return { grown: growing.innerHTML, whole: whole.innerHTML };
    });
  },
  announceUpdate: () => {
    for (const listener of onUpdate) listener("2");
  },
};

const files: AppFiles = {
  register: async () => {
    await registration.promise;
    return { state: script.uncontrolled ? "uncontrolled" : "controlled", reason: null };
  },
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
  store,
  indexUrl: "bundles/index.json",
});
