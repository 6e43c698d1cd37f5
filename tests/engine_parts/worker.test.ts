/** The worker's entry, as pages of an elected engine reach it. */
import assert from "node:assert/strict";
import { after, test } from "node:test";

const LOBBY = "lobby";

/** Until a message that `isIt`. */
function heard(channel: BroadcastChannel, isIt: (data: any) => boolean): Promise<any> {
  return new Promise((resolve) => {
    channel.addEventListener("message", ({ data }: any) => {
      if (isIt(data)) resolve(data);
    });
  });
}

const channels: BroadcastChannel[] = [];
function channel(name: string): BroadcastChannel {
  const opened = new BroadcastChannel(name);
  channels.push(opened);
  return opened;
}
after(() => {
  for (const opened of channels) opened.close();
});

test("a page that left is told nothing more, and its end disturbs nobody", async () => {
  const scope = Object.assign(new EventTarget(), { location: { origin: "https://site.example" }, postMessage() {} });
  const request = (_name: string, { signal }: any = {}) =>
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true });
  const Channel = BroadcastChannel;
  const caches = { open: () => Promise.reject(new Error("denied")) };
  let asked = (): void => undefined;
  const isAsked = new Promise<void>((resolve) => (asked = resolve));
  const fetch = (_: unknown, { signal }: RequestInit) => {
    asked();
    return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  };
  const Kept = class extends Channel {
    constructor(name: string) {
      super(name);
      channels.push(this);
    }
  };
  Object.assign(globalThis, { self: scope, caches, fetch, BroadcastChannel: Kept });
  await import("../../web/worker/engine/worker.ts");
  const lobby = channel(LOBBY);
  const serving = heard(lobby, ({ kind }) => kind === "serving");
  scope.dispatchEvent(new MessageEvent("message", { data: { kind: "serve", lobby: LOBBY } }));
  await serving;

  const errors: unknown[] = [];
  const note = (error: unknown) => errors.push(error);
  process.on("unhandledRejection", note);
  const knock = async (name: string) => {
    const page = channel(name);
    const started = heard(page, ({ kind }) => kind === "started");
    lobby.postMessage({ kind: "knock", channel: name, lock: "page 1" });
    await started;
    return page;
  };
  const first = await knock("first");
  const told: string[] = [];
  first.addEventListener("message", ({ data }: any) => told.push(data.kind));
  const bundleUrl = "https://site.example/m/";
  first.postMessage({ kind: "check", id: 1, bundleUrl, options: {} });
  await isAsked;
  // The same page comes anew: what it asked for before has ended.
  const second = await knock("second");
  const answer = heard(second, ({ id }) => id === 2);
  second.postMessage({ kind: "storage", id: 2, action: "list" });
  assert.equal((await answer).kind, "result");
  process.off("unhandledRejection", note);
  assert.deepEqual([errors, told], [[], []]);
});
