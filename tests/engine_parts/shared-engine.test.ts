/** How a page gets to an engine, with workers that only answer. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { SharedEngine } from "../../web/worker/page/shared-engine.ts";

const URL_ = "https://site.example/engine.js";
const KEPT = ["Worker", "SharedWorker", "BroadcastChannel", "location", "navigator", "addEventListener"] as const;
const own = new Map(KEPT.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));

function set(name: (typeof KEPT)[number], value: unknown): void {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

/** What a page has posted to its engine; `reply` answers. */
class PlainPort extends EventTarget {
  readonly posted: any[] = [];

  postMessage(data: any): void {
    this.posted.push(data);
    if (data.kind === "load") for (const event of events) this.reply({ kind: "event", event });
    if (data.id !== undefined) this.reply({ kind: "result", id: data.id, value: { id: data.bundleUrl } });
  }

  reply(data: unknown): void {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  start(): void {}
  close(): void {}
  terminate(): void {}
}

const ports: PlainPort[] = [];
let events: unknown[] = [];

/** A worker that answers at once. */
class PlainWorker extends PlainPort {
  constructor() {
    super();
    ports.push(this);
    queueMicrotask(() => this.reply({ kind: "started", webgpu: true, lock: null }));
  }
}

beforeEach(() => {
  ports.length = 0;
  events = [];
  set("location", new URL("https://site.example/"));
  set("navigator", {});
  set("Worker", PlainWorker);
});
afterEach(() => {
  for (const [name, descriptor] of own) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete (globalThis as any)[name];
  }
});

function engine(startTimeoutMs?: number) {
  const told: unknown[] = [];
  const listener = {
    onReply: ({ kind, id }: any) => void told.push([kind, id]),
    onFailure: ({ message }: Error) => void told.push(message),
  };
  const shared = new SharedEngine(URL_, listener, { startTimeoutMs, memoryBudget: null });
  return { shared, told };
}

async function turn(): Promise<void> {
  for (let count = 0; count < 3; count++) await new Promise((resolve) => setImmediate(resolve));
}

const storage = (id: number) => ({ kind: "storage", action: "list", id }) as const;

test("a page that found no way to an engine tries again with the next request", async () => {
  let denied = 2;
  set("Worker", class extends PlainWorker {
    constructor() {
      if (denied-- > 0) throw new DOMException("denied", "SecurityError");
      super();
    }
  });
  const { shared, told } = engine();
  shared.postMessage(storage(1));
  await turn();
  assert.deepEqual(told, ["denied"]);
  shared.postMessage(storage(2));
  assert.deepEqual(told, ["denied", "denied"]);
  shared.postMessage(storage(3));
  await turn();
  assert.deepEqual(told.slice(2), [["result", 3]]);
  shared.terminate();
});

test("the models that a page has are those that the engine doesn't tell are dropped", async () => {
  const listeners = new Map<string, (event: object) => void>();
  set("addEventListener", (kind: string, listener: () => void) => listeners.set(kind, listener));
  const { shared } = engine();
  const load = (id: number, bundleUrl: string, options = {}) =>
    shared.postMessage({ kind: "load", id, bundleUrl, options });
  for (const [index, bundleUrl] of ["a", "b"].entries()) load(index, bundleUrl);
  await turn();
  events = [{ kind: "model", state: "dropped", id: "a", memoryBytes: 0 }];
  load(2, "c", { replace: true });
  await turn();
  for (const kind of ["pagehide", "pageshow"]) listeners.get(kind)?.({ persisted: true });
  await turn();
  assert.equal(ports.length, 2);
  assert.deepEqual(ports[1]?.posted[0].models.map(({ id }: { id: string }) => id), ["b", "c"]);
  shared.terminate();
});

test("a SharedWorker that says nothing gives way to the engine of an elected tab", async () => {
  class Silent {
    readonly port = new PlainPort();
    addEventListener(): void {}
  }
  const held: string[] = [];
  const request = async (name: string, options: any, job = options) => {
    held.push(name);
    await job();
  };
  set("navigator", { locks: { request } });
  set("SharedWorker", Silent);
  const { shared } = engine(20);
  const end = performance.now() + 5000;
  while (!held.some((name) => name.includes(URL_))) {
    assert.ok(performance.now() < end, "no engine was elected");
    await turn();
  }
  assert.equal(ports.length, 1);
  shared.terminate();
});
