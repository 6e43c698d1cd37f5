/** Which models are on the device, for whom, and who waits: with models that are only counted. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Models, type OpenSession } from "../../web/worker/engine/models.ts";
import { Client, type Lease, type Session } from "../../web/worker/engine/resident.ts";
import type { LocalLoadOptions } from "../../web/worker/shared/protocol.ts";

const BYTES = 100;
/** Its configuration never comes. */
const SLOW = "slow";
const CONFIG = ["mlc-chat-config.json", { path: "mlc-chat-config.json", bytes: 1, sha256: "" }] as const;
const going = new AbortController().signal;
const adapter = {
  features: new Set(["shader-f16"]),
  limits: {},
  info: { vendor: "v", architecture: "a", description: "d" },
};
const own = Object.getOwnPropertyDescriptor(globalThis, "navigator") ?? {};

beforeEach(() => {
  const value = { gpu: { requestAdapter: async () => adapter } };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
});
afterEach(() => {
  Object.defineProperty(globalThis, "navigator", { configurable: true, ...own });
});

/** A bundle's lock for each address, with targets of BYTES. */
const store = {
  async openLock(lockUrl: string) {
    const id = lockUrl.split("/").at(-2);
    const needs = (...features: string[]) => ({ features, limits: {} });
    const target = (name: string, ...features: string[]) =>
      [name, { name, library: "l", parameters: "p", parameterBytes: BYTES, needs: needs(...features) }] as const;
    const targets = new Map([target("webgpu-f16", "shader-f16"), target("webgpu-f32")]);
    return { lock: { model: { id }, files: new Map(id === SLOW ? [CONFIG] : []), targets }, raw: id, fromStorage: false };
  },
  hasRoom: async () => true,
  content: {
    read: (_: unknown, { signal }: { signal: AbortSignal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  },
};

interface Opening {
  readonly id: string;
  readonly signal: AbortSignal;
  end(): void;
  fail(error: Error): void;
}

/** Models whose loads end when they are told to; `device` has those that are loaded. */
function models() {
  const openings: Opening[] = [];
  const device: string[] = [];
  const open: OpenSession = ({ bundle, best, backends }, { signal }) => {
    const { id } = bundle.lock.model;
    return new Promise<Session>((resolve, reject) => {
      const runner = { dispose: () => device.splice(device.indexOf(id), 1) };
      const backend = { kind: backends?.[0] ?? best };
      const loaded = { id, memoryBytes: BYTES, backend };
      const end = () => {
        device.push(id);
        resolve({ model: { loaded, runner, target: best, bundle }, release: () => undefined } as any);
      };
      signal.addEventListener("abort", () => reject(signal.reason));
      openings.push({ id, signal, end, fail: reject });
    });
  };
  /** Bytes of each bundle's files that aren't stored. */
  const missing = { bytes: 0 };
  const models = new Models({ ...store, missingBytes: async () => missing.bytes } as any, open);
  const connect = (memoryBudget: number | null = null) => {
    const events: string[] = [];
    const client = new Client((event) => {
      if (event.kind === "model") events.push(`${event.state} ${event.id}`);
      else if (event.kind === "storage") events.push(Object.values(event).join(" "));
    });
    client.memoryBudget = memoryBudget;
    models.connect(client);
    return { client, events };
  };
  const load = (client: Client, id: string, options: LocalLoadOptions = {}, signal = going) =>
    models.load(client, { bundleUrl: `https://site.example/${id}/`, options }, signal);
  /** The next load that has begun. */
  const opening = async (): Promise<Opening> => {
    await turn();
    const next = openings.shift();
    assert.ok(next, "no load has begun");
    return next;
  };
  const loaded = async (client: Client, id: string): Promise<Lease> => {
    const loading = load(client, id);
    (await opening()).end();
    await loading;
    return models.find(client, id, going);
  };
  return { models, connect, load, opening, openings, loaded, device, missing };
}

/** All that can go on without further doing has gone on. */
async function turn(): Promise<void> {
  for (let count = 0; count < 5; count++) await new Promise((resolve) => setImmediate(resolve));
}

/** Whether it has settled by now, without further doing. */
async function isSettled(work: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  work.then(note, note);
  await turn();
  return settled;
}

test("a model that is kept is neither given up nor evicted before that is done", async () => {
  const { models: all, connect, load, opening, loaded, device } = models();
  const { client } = connect(1.5 * BYTES);
  const { resident } = await loaded(client, "a");
  assert.ok(resident);
  let done = (): void => undefined;
  const keeping = all.keep(resident, () => new Promise((resolve) => (done = resolve)));
  const loading = load(client, "b");
  await turn();
  assert.deepEqual(device, ["a"]);
  await all.unload(client, "a");
  assert.deepEqual(device, ["a"]);
  done();
  await keeping;
  assert.deepEqual(device, []);
  (await opening()).end();
  await loading;
  assert.deepEqual(device, ["b"]);
});

test("a load that waits for old answers takes no part in what others began and left meanwhile", async () => {
  for (const others of ["leave", "fail"]) {
    const { models: all, connect, load, opening, loaded, device } = models();
    const [alice, bob] = [connect().client, connect().client];
    const lease = await loaded(alice, "a");
    let answered = (): void => undefined;
    lease.requests.add(new Promise<void>((resolve) => (answered = resolve)));
    const waiting = load(alice, "b", { replace: true });
    await turn();
    const leaving = new AbortController();
    const other = load(bob, "b", {}, leaving.signal);
    const begun = await opening();
    if (others === "leave") leaving.abort();
    else begun.fail(new Error("broken"));
    await assert.rejects(other, others === "leave" ? { name: "AbortError" } : /broken/);
    answered();
    (await opening()).end();
    assert.equal((await waiting).id, "b");
    assert.deepEqual(device, ["b"]);
    await all.unload(alice, undefined);
    assert.deepEqual(device, []);
  }
});

test("a load that is aborted before it is known what it needs is aborted, and not too large", async () => {
  const { connect, load } = models();
  const { client } = connect(10 * BYTES);
  const controller = new AbortController();
  const loading = load(client, SLOW, {}, controller.signal);
  await turn();
  controller.abort();
  await assert.rejects(loading, { name: "AbortError" });
});

test("requests wait behind a load for the place of the model that they keep busy", async () => {
  const { models: all, connect, load, opening, openings, loaded, device } = models();
  const [alice, bob] = [connect(1.5 * BYTES), connect()];
  const lease = await loaded(alice.client, "a");
  const busy = await all.use(lease, going);
  const loading = load(bob.client, "b");
  await turn();
  const overtaking = all.use(lease, going);
  const leaving = new AbortController();
  const left = all.use(lease, leaving.signal);
  assert.equal(await isSettled(overtaking), false);
  leaving.abort();
  await assert.rejects(left, { name: "AbortError" });
  all.leave(busy);
  (await opening()).end();
  await loading;
  assert.deepEqual(alice.events, ["unloaded a"]);
  // The request that waited loads its model again, in the place of the one that is idle now.
  (await opening()).end();
  all.leave(await overtaking);
  assert.deepEqual([device, openings.length], [["a"], 0]);
});

test("who waits behind a load goes on when that is given up", async () => {
  const { models: all, connect, load, loaded } = models();
  const [alice, bob] = [connect(1.5 * BYTES), connect()];
  const lease = await loaded(alice.client, "a");
  const busy = await all.use(lease, going);
  const leaving = new AbortController();
  const loading = load(bob.client, "b", {}, leaving.signal);
  await turn();
  const second = all.use(lease, going);
  leaving.abort();
  await assert.rejects(loading, { name: "AbortError" });
  assert.equal(await second, busy);
});

test("who waits behind a load goes on once that has its room", async () => {
  const { models: all, connect, load, opening, loaded, device } = models();
  const { client } = connect(2.5 * BYTES);
  const [lease, other] = [await loaded(client, "a"), await loaded(client, "b")];
  const [busy, ending] = [await all.use(lease, going), await all.use(other, going)];
  const loading = load(client, "c");
  await turn();
  const second = all.use(lease, going);
  assert.equal(await isSettled(second), false);
  all.leave(ending);
  const begun = await opening();
  assert.deepEqual(device, ["a"]);
  assert.equal(await isSettled(second), true);
  assert.equal(await second, busy);
  begun.end();
  await loading;
});

test("a model stays for a load that has no room without it either, and answers meanwhile", async () => {
  const { models: all, connect, load, opening, loaded, device } = models();
  const [alice, bob, carol] = [connect(1.5 * BYTES), connect(), connect()];
  alice.client.memoryBudget = 2.5 * BYTES;
  const lease = await loaded(alice.client, "a");
  const slow = load(bob.client, "b");
  const downloading = await opening();
  alice.client.memoryBudget = 1.5 * BYTES;
  const waiting = load(carol.client, "c");
  assert.equal(await isSettled(waiting), false);
  const [first, second] = [all.use(lease, going), all.use(lease, going)];
  assert.equal(await isSettled(Promise.all([first, second])), true);
  assert.deepEqual([device, alice.events], [["a"], []]);
  // What is loaded can make room: requests no longer overtake who waits for it.
  downloading.end();
  await slow;
  const third = all.use(lease, going);
  assert.equal(await isSettled(third), false);
  for (const use of [first, second]) all.leave(await use);
  (await opening()).end();
  await waiting;
  assert.deepEqual(alice.events, ["unloaded a"]);
  (await opening()).end();
  all.leave(await third);
});

test("who loads a model that is there is told what isn't stored of it", async () => {
  const { connect, load, loaded, missing } = models();
  const [alice, bob, carol] = [connect(), connect(), connect()];
  await loaded(alice.client, "a");
  await load(bob.client, "a");
  missing.bytes = 7;
  await load(carol.client, "a");
  const told = "storage memory-only https://site.example/a/mlc-lock.json 7 deleted";
  assert.deepEqual([alice.events, bob.events, carol.events], [[], [], [told]]);
});

test("a load joins another one only if it may run on the same backends", async () => {
  const { connect, load, opening, openings } = models();
  const all: LocalLoadOptions[] = [{}, { backends: ["webgpu-f16"] }, {}];
  const loads = all.map((options) => load(connect().client, "a", options));
  for (const { end } of [await opening(), await opening()]) end();
  await Promise.all(loads);
  assert.equal(openings.length, 0);
});

test("a request without a name waits for a load only if that decides which model is meant", async () => {
  const { models: all, connect, load, opening } = models();
  const { client } = connect();
  const first = load(client, "a");
  const early = all.find(client, undefined, going);
  assert.equal(await isSettled(early), false);
  (await opening()).end();
  await first;
  assert.equal((await early).id, "a");
  const second = load(client, "b");
  assert.equal((await all.find(client, undefined, going)).id, "a");
  (await opening()).end();
  await second;
  await assert.rejects(all.find(client, undefined, going), /a, b are loaded/);
  const replacing = load(client, "c", { replace: true });
  const late = all.find(client, undefined, going);
  (await opening()).end();
  await replacing;
  assert.equal((await late).id, "c");
});
