/** How a page gets to an engine, with workers that only answer. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ElectedEngine } from "../../web/worker/client/elected-engine.ts";
import { SharedEngine } from "../../web/worker/client/shared-engine.ts";
import { ENGINE_NAME } from "../../web/worker/shared/presence.ts";
import type { HeldModel, WorkerRequest } from "../../web/worker/shared/protocol.ts";

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
    // Answers take as long as a test wants.
    if (data.kind === "complete" || data.kind === "abort") return;
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
let page = new EventTarget();
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
  page = new EventTarget();
  set("addEventListener", page.addEventListener.bind(page));
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

/** Puts the page aside and brings it back, to another engine. */
async function comeBack(): Promise<void> {
  for (const kind of ["pagehide", "pageshow"]) page.dispatchEvent(Object.assign(new Event(kind), { persisted: true }));
  await turn();
}

async function turn(): Promise<void> {
  for (let count = 0; count < 3; count++) await new Promise((resolve) => setImmediate(resolve));
}

async function until(isSo: () => boolean, otherwise: string): Promise<void> {
  const end = performance.now() + 5000;
  while (!isSo()) {
    assert.ok(performance.now() < end, otherwise);
    await turn();
  }
}

const storage = (id: number) => ({ kind: "storage", action: "list", id }) as const;
const load = (id: number, bundleUrl: string, options = {}) => ({ kind: "load", id, bundleUrl, options }) as const;
const complete = (id: number, params = {}) =>
  ({ kind: "complete", id, params: { messages: [], ...params } }) as unknown as WorkerRequest;
/** What a worker was asked for, without what greets it. */
const asked = (port: PlainPort | undefined) => port?.posted.filter(({ kind }) => kind !== "hello") ?? [];
const models = (port: PlainPort | undefined) => port?.posted[0].models ?? [];

function chunk(id: number, content: string) {
  const choices = [{ index: 0, delta: { content }, logprobs: null, finish_reason: null }];
  return { kind: "chunk", id, chunk: { id: "x", created: 1, model: "m", choices } };
}

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
  const { shared } = engine();
  for (const [index, bundleUrl] of ["a", "b"].entries()) shared.postMessage(load(index, bundleUrl));
  await turn();
  events = [{ kind: "model", state: "dropped", id: "a", memoryBytes: 0 }];
  shared.postMessage(load(2, "c", { replace: true }));
  await turn();
  await comeBack();
  assert.equal(ports.length, 2);
  assert.deepEqual(models(ports[1]).map(({ id }: HeldModel) => id), ["b", "c"]);
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
  await until(() => held.some((name) => name.includes(URL_)), "no engine was elected");
  assert.equal(ports.length, 1);
  shared.terminate();
});

test("the next engine is told what was given up, and what was on the device", async () => {
  const { shared } = engine();
  for (const [index, bundleUrl] of ["a", "b", "c"].entries()) shared.postMessage(load(index, bundleUrl));
  shared.postMessage({ kind: "unload", id: 3, model: "c" });
  await turn();
  ports[0]?.reply({ kind: "event", event: { kind: "model", state: "unloaded", id: "a", memoryBytes: 0 } });
  await comeBack();
  const told = models(ports[1]).map(({ id, loaded }: HeldModel) => [id, loaded]);
  assert.deepEqual(told, [["a", false], ["b", true]]);
  shared.terminate();
});

test("the next engine gets an open request with the seed that it had, and none that was aborted", async () => {
  const { shared, told } = engine();
  shared.postMessage(complete(1, { seed: 5 }));
  shared.postMessage(complete(2));
  shared.postMessage(complete(3));
  await turn();
  shared.postMessage({ kind: "abort", id: 3 });
  await comeBack();
  const [first, second] = [asked(ports[0]), asked(ports[1])];
  assert.deepEqual(second, first.slice(0, 2));
  assert.deepEqual([first[0].params.seed, typeof first[1].params.seed], [5, "number"]);
  assert.deepEqual(told, [["aborted", 3]]);
  shared.terminate();
});

test("an answer that comes out differently is ended in the engine, too", async () => {
  const { shared, told } = engine();
  shared.postMessage(complete(1));
  await turn();
  ports[0]?.reply(chunk(1, "One"));
  await comeBack();
  ports[1]?.reply(chunk(1, "Two"));
  assert.deepEqual(told, [["chunk", 1], ["error", 1]]);
  assert.deepEqual(asked(ports[1]).at(-1), { kind: "abort", id: 1 });
  shared.terminate();
});

test("a call that is taken back before there is an engine is posted to none", async () => {
  const { shared } = engine();
  for (const id of [1, 2]) shared.postMessage(storage(id));
  assert.equal(shared.withdraw(1), true);
  await turn();
  assert.deepEqual(asked(ports[0]), [storage(2)]);
  assert.equal(shared.withdraw(2), false);
  shared.terminate();
});

test("an engine that ends gives the page's lock back", async () => {
  const held = new Set<string>();
  const request = async (name: string, options: any, job = options) => {
    held.add(name);
    await job();
    held.delete(name);
  };
  set("navigator", { locks: { request } });
  const { shared } = engine();
  await turn();
  assert.ok(held.size > 0);
  shared.terminate();
  await turn();
  assert.deepEqual([...held], []);
});

test("a tab's requests wait for the elected engine; those that failed or were taken back aren't posted", async (context) => {
  set("navigator", { locks: { request: () => new Promise(() => {}) } });
  const url = new URL(URL_);
  const posted: unknown[] = [];
  const failures: string[] = [];
  const lobby = new BroadcastChannel(`${ENGINE_NAME} ${url}`);
  const opened = [lobby];
  let isServing = false;
  lobby.addEventListener("message", ({ data }: any) => {
    if (!isServing) return;
    const channel = new BroadcastChannel(data.channel);
    opened.push(channel);
    channel.addEventListener("message", ({ data }: any) => posted.push(data.id ?? data.kind));
    channel.postMessage({ kind: "started" });
  });
  const listener = { onReply() {}, onLost() {}, onFailure: ({ code }: any) => void failures.push(code) };
  const greeting = () => ({ kind: "hello", lock: null, models: [], memoryBudget: null }) as const;
  const elected = new ElectedEngine(url, listener, { greeting });
  context.after(() => {
    elected.terminate();
    for (const channel of opened) channel.close();
  });
  elected.postMessage(storage(1));
  lobby.postMessage({ kind: "failed", error: { code: "network_error", message: "away", remedy: "" } });
  await until(() => failures.length > 0, "nothing failed");
  isServing = true;
  for (const id of [2, 3, 4]) elected.postMessage(storage(id));
  assert.equal(elected.withdraw(3), true);
  await until(() => posted.includes(4), "the last one isn't posted");
  assert.deepEqual([posted, failures], [["hello", 2, 4], ["network_error"]]);
});
