/** Which models are on the device, for whom, and who waits: with models that are only counted. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../web/worker/shared/errors.ts";
import { BYTES, SLOW, going, isSettled, models, turn } from "./counted-models.ts";

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

test("of several idle models the one that was used the longest ago makes room", async () => {
  const { models: all, connect, load, opening, loaded, device } = models();
  const { client } = connect(2.5 * BYTES);
  const lease = await loaded(client, "a");
  await loaded(client, "b");
  all.leave(await all.use(lease, going));
  const loading = load(client, "c");
  (await opening()).end();
  await loading;
  assert.deepEqual(device, ["a", "c"]);
});

test("the smallest of the budgets counts", async () => {
  const { connect, load, opening, loaded, device } = models();
  const [, bob] = [connect(1.5 * BYTES), connect(10 * BYTES)];
  await loaded(bob.client, "a");
  const loading = load(bob.client, "b");
  (await opening()).end();
  await loading;
  assert.deepEqual(device, ["b"]);
});

test("a model that takes more than was reckoned makes its room when it is loaded", async () => {
  const { connect, load, opening, loaded, device } = models();
  const { client } = connect(2.5 * BYTES);
  await loaded(client, "a");
  const loading = load(client, "b");
  (await opening()).end({ memoryBytes: 2 * BYTES });
  await loading;
  assert.deepEqual(device, ["b"]);
});

test("a device that is full gets the room of a model that is idle", async () => {
  const { connect, load, opening, loaded, device } = models();
  const { client } = connect();
  await loaded(client, "a");
  const loading = load(client, "b");
  const full = new EngineError({ code: "out_of_memory", message: "full", remedy: "" });
  (await opening()).fail(full);
  (await opening()).end();
  await loading;
  assert.deepEqual(device, ["b"]);
  const third = load(client, "c");
  (await opening()).fail(full);
  (await opening()).fail(full);
  await assert.rejects(third, /full/);
});

test("one client's small budget refuses no other what it may load", async () => {
  const { connect, load, opening, device } = models();
  const [small, large] = [0.5 * BYTES, 10 * BYTES].map((budget) => load(connect(budget).client, "a"));
  const refused = assert.rejects(small as Promise<unknown>, { code: "out_of_memory" });
  (await opening()).end();
  await Promise.all([refused, large]);
  assert.deepEqual(device, ["a"]);
});

test("a model that fell back to another backend isn't one for who doesn't list that", async () => {
  const { connect, load, opening, openings, device } = models();
  const first = load(connect().client, "a");
  (await opening()).end({ kind: "webgpu-f32" });
  await first;
  const second = load(connect().client, "a", { backends: ["webgpu-f16"] });
  (await opening()).end();
  await second;
  await load(connect().client, "a", { backends: ["webgpu-f16", "webgpu-f32"] });
  assert.deepEqual([device, openings.length], [["a", "a"], 0]);
});

test("unloading all waits for a load and takes its model, too", async () => {
  const { models: all, connect, load, opening, device } = models();
  const { client } = connect();
  const loading = load(client, "a");
  const unloading = all.unload(client, undefined);
  assert.equal(await isSettled(unloading), false);
  (await opening()).end();
  await loading;
  await unloading;
  assert.deepEqual(device, []);
});

test("of a former engine's models those are loaded that were on the device, while their client is there", async () => {
  const { models: all, connect, opening, openings } = models();
  const { client } = connect();
  const held = (id: string, loaded: boolean) => ({ id, bundleUrl: `https://site.example/${id}/`, options: {}, loaded });
  all.adopt(client, [held("a", false), held("b", true)]);
  const begun = await opening();
  assert.deepEqual([begun.id, openings.length], ["b", 0]);
  all.disconnect(client);
  await turn();
  assert.equal(begun.signal.aborted, true);
});

test("who leaves a load that another one waits for doesn't end it", async () => {
  const { connect, load, opening, device } = models();
  const leaving = new AbortController();
  const left = load(connect().client, "a", {}, leaving.signal);
  const waiting = load(connect().client, "a");
  const begun = await opening();
  leaving.abort();
  await assert.rejects(left, { name: "AbortError" });
  assert.equal(begun.signal.aborted, false);
  begun.end();
  await waiting;
  assert.deepEqual(device, ["a"]);
});

test("a model that was loaded twice is given up once", async () => {
  const { models: all, connect, load, loaded, device } = models();
  const { client } = connect();
  await loaded(client, "a");
  await load(client, "a", { deterministic: true });
  await all.unload(client, "a");
  assert.deepEqual(device, []);
});

test("a budget refuses what others have or are loading, as what would be loaded for it alone", async () => {
  const { models: all, connect, load, opening, openings, loaded, device } = models();
  const [rich, exact, poor] = [connect().client, connect(BYTES).client, connect(BYTES - 1).client];
  const refused = { name: "EngineError", code: "out_of_memory" };
  await assert.rejects(load(poor, "a"), refused);
  await loaded(rich, "a");
  await assert.rejects(load(poor, "a"), refused);
  assert.equal((await load(exact, "a")).id, "a");
  assert.deepEqual(device, ["a"]);
  const loading = load(rich, "b");
  const next = await opening();
  await assert.rejects(load(poor, "b"), refused);
  next.end();
  await loading;
  await assert.rejects(all.find(poor, "b", going), { code: "model_not_loaded" });
  assert.deepEqual([device, openings.length], [["b"], 0]);
});

test("a load for a client whose budget doesn't allow it isn't helped by another one that joins", async () => {
  const { models: all, connect, load, opening, openings, device } = models();
  const [rich, poor] = [connect().client, connect(BYTES - 1).client];
  const [tight, free] = [load(poor, "a"), load(rich, "a")];
  await assert.rejects(tight, { code: "out_of_memory" });
  (await opening()).end();
  assert.equal((await free).id, "a");
  assert.deepEqual([...all.residents].map(({ uses }) => uses), [0]);
  assert.deepEqual([device, openings.length], [["a"], 0]);
});
