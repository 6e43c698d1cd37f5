/** Loads and unloads of one client that overlap: which of them counts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BYTES, going, isSettled, models, turn } from "./counted-models.ts";

const ORDERS = ["load unload", "load unload load", "load unload load unload", "load load unload load"];

test("of loads and unloads that nobody waits for, the last one counts", async () => {
  for (const order of ORDERS) {
    for (const id of ["a", undefined]) {
      const { models: all, connect, load, opening, openings, device } = models();
      const { client } = connect();
      const names = order.split(" ");
      const calls = names.map((name) => (name === "load" ? load(client, "a") : all.unload(client, id)));
      const ended: number[] = [];
      for (const [index, call] of calls.entries()) void call.then(() => ended.push(index));
      (await opening()).end();
      await Promise.all(calls);
      // Whoever hears of them one by one comes to the same.
      assert.deepEqual(ended, [...names.keys()], order);
      const isThere = names.at(-1) === "load";
      assert.deepEqual([device, openings.length], [isThere ? ["a"] : [], 0], order);
      const found = all.find(client, "a", going);
      if (isThere) all.leave(await all.use(await found, going));
      else await assert.rejects(found, { code: "model_not_loaded" });
    }
  }
});

test("a load goes on though the one before it was aborted, and what that had was to be given up", async () => {
  for (const id of ["a", undefined]) {
    const { models: all, connect, load, opening, device } = models();
    const { client } = connect();
    const leaving = new AbortController();
    const first = load(client, "a", {}, leaving.signal);
    const unloading = all.unload(client, id);
    const last = load(client, "a");
    await turn();
    leaving.abort();
    await assert.rejects(first, { name: "AbortError" });
    if (id === undefined) await unloading;
    else await assert.rejects(unloading, { code: "invalid_request" });
    (await opening()).end();
    assert.equal((await last).id, "a");
    assert.deepEqual(device, ["a"]);
  }
});

test("one client's unloading leaves the model to another, and to its own later load", async () => {
  const { models: all, connect, load, opening, openings, device } = models();
  const [alice, bob] = [connect(), connect()];
  const calls = [load(alice.client, "a"), load(bob.client, "a"), all.unload(alice.client, undefined)];
  (await opening()).end();
  await Promise.all(calls);
  await assert.rejects(all.find(alice.client, "a", going), { code: "model_not_loaded" });
  const { client } = alice;
  await Promise.all([load(client, "a"), all.unload(client, "a"), load(client, "a")]);
  await all.unload(bob.client, undefined);
  assert.deepEqual([device, openings.length], [["a"], 0]);
  all.leave(await all.use(await all.find(client, undefined, going), going));
  assert.deepEqual([alice.events, bob.events], [[], []]);
});

test("a model that unloading takes is no room for another's load to wait for", async () => {
  const { models: all, connect, load, opening, device } = models();
  const { client } = connect(1.5 * BYTES);
  const first = load(client, "a");
  const slow = await opening();
  const unloading = all.unload(client, undefined);
  const last = load(client, "b");
  assert.equal(await isSettled(last), false);
  slow.end();
  await Promise.all([first, unloading]);
  (await opening()).end();
  await last;
  assert.deepEqual(device, ["b"]);
});

test("a load in the place of others counts, whichever of them ends first", async () => {
  for (const isFirst of [true, false]) {
    const { models: all, connect, load, opening, device } = models();
    const { client, events } = connect();
    const former = load(client, "a");
    const slow = await opening();
    const replacing = load(client, "b", { replace: true });
    const fast = await opening();
    const refused = isFirst ? former : assert.rejects(former, { code: "model_not_loaded" });
    for (const { end } of isFirst ? [slow, fast] : [fast, slow]) {
      end();
      await turn();
    }
    await Promise.all([refused, replacing]);
    assert.deepEqual([device, events], [["b"], isFirst ? ["dropped a"] : []]);
    assert.equal((await all.find(client, undefined, going)).id, "b");
  }
});

test("of two loads of one name the later one counts, whichever ends first", async () => {
  const { models: all, connect, load, opening, device } = models();
  const { client } = connect();
  const first = load(client, "a", { backends: ["webgpu-f16"] });
  const slow = await opening();
  const last = load(client, "a", { backends: ["webgpu-f32"] });
  (await opening()).end();
  await last;
  slow.end();
  await assert.rejects(first, { code: "model_not_loaded" });
  assert.deepEqual(device, ["a"]);
  const { resident } = await all.find(client, "a", going);
  assert.equal(resident?.session?.model.loaded.backend.kind, "webgpu-f32");
});
