import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { LIMITS } from "../../web/worker/store/limits.ts";
import { StateStore, type StateHeader } from "../../web/worker/store/state-store.ts";
import { install, PlainCache } from "./plain-cache.ts";

const LOCK_URL = "https://site.example/bundles/m/mlc-lock.json";
const going = new AbortController().signal;
let cache: PlainCache;
let store: StateStore;

beforeEach(() => {
  cache = new PlainCache();
  install(cache);
  store = new StateStore({ ...LIMITS, maxStateBytes: 100 } as unknown as typeof LIMITS);
});

const key = (name: string, lockUrl = LOCK_URL) => ({ lockUrl, name });

function stateOf(layerBytes: number, layerCount = 2) {
  const header: StateHeader = { identity: "x", tokens: [1, 2, 3], onGrid: 0, layerBytes, layerCount };
  async function* layers() {
    for (let layer = 0; layer < layerCount; layer++) yield new Uint8Array(layerBytes).fill(layer + 1);
  }
  return { header, layers: layers() };
}

async function read(name: string): Promise<number[][]> {
  const found: number[][] = [];
  const header = await store.header(key(name));
  assert.ok(header);
  for await (const layer of store.layers(key(name), header)) found.push([...layer]);
  return found;
}

const names = async (): Promise<string[]> => (await store.list()).map(({ name }) => name);

test("a state comes back as it was saved, also after another of its name", async () => {
  await store.save(key("a/b"), stateOf(9, 3), going);
  await store.save(key("a/b"), stateOf(4), going);
  assert.deepEqual(await read("a/b"), [[1, 1, 1, 1], [2, 2, 2, 2]]);
  assert.deepEqual((await store.header(key("a/b")))?.tokens, [1, 2, 3]);
  assert.deepEqual(await store.list(), [
    { name: "a/b", bundleUrl: "https://site.example/bundles/m/", tokens: 3, bytes: 8 },
  ]);
  assert.equal(cache.entries.size, 3);
});

test("whatever its name is, a state stays while others are saved and deleted", async () => {
  const all = ["2024", "0", ".", "..", "a/1", "%2e", "=", " "];
  for (const name of all) await store.save(key(name), stateOf(4), going);
  assert.deepEqual((await names()).sort(), [...all].sort());
  for (const name of all) assert.equal((await read(name)).length, 2, name);
  await store.delete(key("0"));
  assert.deepEqual((await names()).sort(), all.filter((name) => name !== "0").sort());
});

test("what has another form of address goes with the next save", async () => {
  cache.entries.set("https://site.example/__mlc-edge/states/x/2024", new Uint8Array(4));
  await store.save(key("a"), stateOf(4), going);
  assert.equal(cache.entries.size, 3);
});

test("no changed byte is taken for the state that was saved", async () => {
  await store.save(key("a"), stateOf(4), going);
  for (const [url, bytes] of [...cache.entries]) {
    for (let index = 0; index < bytes.length; index++) {
      const changed = bytes.slice();
      changed[index] = (changed[index] ?? 0) ^ 1;
      cache.entries.set(url, changed);
      const same = (await store.header(key("a"))) && (await read("a").catch(() => null));
      assert.equal(same, null, `${url} ${index}`);
    }
    cache.entries.delete(url);
    assert.equal((await store.header(key("a"))) && (await read("a").catch(() => null)), null);
    cache.entries.set(url, bytes);
  }
  assert.equal((await read("a")).length, 2);
});

test("a state that goes while it is read is no other, and not damaged", async () => {
  const goings: [() => Promise<unknown>, string][] = [
    [() => store.delete(key("a")), "GoneStateError"],
    [() => store.save(key("a"), stateOf(5), going), "GoneStateError"],
    [async () => cache.entries.delete([...cache.entries.keys()].find((url) => url.endsWith("/1")) ?? ""), "DamagedStateError"],
  ];
  for (const [go, name] of goings) {
    await store.save(key("a"), stateOf(4), going);
    const header = await store.header(key("a"));
    assert.ok(header);
    const layers = store.layers(key("a"), header);
    assert.equal((await layers.next()).value?.length, 4);
    await go();
    await assert.rejects(layers.next(), { name });
  }
});

test("a state that is too large is refused beforehand", async () => {
  await store.admit("a", 100);
  await assert.rejects(store.admit("a", 101), { code: "quota_exceeded" });
});

test("the oldest make room, and what is too large is refused", async () => {
  for (const name of ["a", "b", "c"]) {
    await store.save(key(name), stateOf(20), going);
    const then = Date.now();
    while (Date.now() === then);
  }
  assert.deepEqual(await names(), ["b", "c"]);
  await assert.rejects(store.save(key("d"), stateOf(51), going), { code: "quota_exceeded" });
  assert.deepEqual(await names(), ["b", "c"]);
});

test("a browser without room keeps nothing half", async () => {
  cache.room = 4;
  await store.save(key("a"), stateOf(4), going);
  await assert.rejects(store.save(key("b"), stateOf(4), going), { code: "quota_exceeded" });
  assert.deepEqual(await names(), ["a"]);
  assert.equal(cache.entries.size, 3);
});

test("a save that is aborted leaves nothing", async () => {
  const controller = new AbortController();
  const { header, layers } = stateOf(4);
  async function* aborted() {
    for await (const layer of layers) {
      yield layer;
      controller.abort();
    }
  }
  const saving = store.save(key("a"), { header, layers: aborted() }, controller.signal);
  await assert.rejects(saving, { name: "AbortError" });
  assert.equal(cache.entries.size, 0);
});

test("what a crash left goes with the next save", async () => {
  await store.save(key("a"), stateOf(4), going);
  const header = [...cache.entries.keys()].find((url) => url.endsWith("a"));
  cache.entries.delete(String(header));
  assert.deepEqual(await names(), []);
  await store.save(key("b"), stateOf(4), going);
  assert.equal(cache.entries.size, 3);
});

test("a bundle's states go with it, and others stay", async () => {
  const other = "https://site.example/bundles/other/mlc-lock.json";
  await store.save(key("a"), stateOf(4), going);
  await store.save(key("a", other), stateOf(4), going);
  await store.save(key("ab"), stateOf(4), going);
  assert.equal(await store.delete(key("a")), 8);
  assert.equal(await store.delete(key("a")), 0);
  assert.equal(await store.deleteOf(LOCK_URL), 8);
  assert.deepEqual((await store.list()).map(({ bundleUrl }) => bundleUrl), ["https://site.example/bundles/other/"]);
});

test("without storage nothing is kept, and that is said", async () => {
  Object.assign(globalThis, { caches: { open: () => Promise.reject(new Error("denied")) } });
  assert.deepEqual(await store.list(), []);
  assert.equal(await store.header(key("a")), null);
  assert.equal(await store.delete(key("a")), 0);
  await assert.rejects(store.save(key("a"), stateOf(4), going), { code: "quota_exceeded" });
});
