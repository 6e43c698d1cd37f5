/** What a model reads and stores under a name, with a device that only counts. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { SavedStates } from "../../web/worker/engine/saved-states.ts";
import { carryOut } from "../../web/worker/engine/storage-actions.ts";
import { LIMITS } from "../../web/worker/store/limits.ts";
import { StateStore } from "../../web/worker/store/state-store.ts";
import { install, PlainCache } from "./plain-cache.ts";

const LAYERS = 2;
const MESSAGES = [{ role: "system", content: "x" }];
const going = new AbortController().signal;
let cache: PlainCache;
let store: StateStore;

beforeEach(() => {
  cache = new PlainCache();
  install(cache);
  store = new StateStore({ ...LIMITS, maxStateBytes: 100 });
});

interface Device {
  onLayer?: () => Promise<void>;
  adapter?: string;
  contextWindowSize?: number;
  /** Whether the KV cache has the tokens. */
  holds?: boolean;
  /** Bytes of a token in a layer. */
  tokenBytes?: number;
}

/** A model whose prefix is `tokens`. */
function statesOf(
  tokens: readonly number[],
  { onLayer = async () => {}, adapter = "", contextWindowSize = 1000, holds = false, tokenBytes = 1 }: Device = {},
) {
  const done: string[] = [];
  const sequence = {
    holds: () => holds,
    compute: async () => {
      done.push("compute");
      const layers = (async function* () {
        for (let layer = 0; layer < LAYERS; layer++) yield new Uint8Array(tokens.length).fill(layer);
      })();
      return { onGrid: 0, layers };
    },
    adopt: async (_: unknown, { layers }: { layers: AsyncIterable<Uint8Array> }) => {
      for await (const _layer of layers) await onLayer();
      done.push("adopt");
    },
  };
  const model = {
    text: { conversation: { prefix: async () => tokens } },
    loaded: { contextWindowSize, adapter },
    bundle: { identity: "x" },
    target: "t",
    runner: { sequences: { layerBytes: (count: number) => count * tokenBytes, layers: LAYERS } },
  };
  const lockUrl = "https://site.example/bundles/m/mlc-lock.json";
  const notify = ({ state }: { state: string }) => done.push(state);
  const states = new SavedStates({ model, sequence } as any, { store: { states: store } as any, lockUrl, notify });
  return { states, done };
}

test("a state is computed once, and read from then on", async () => {
  const { states, done } = statesOf([1, 2, 3]);
  const saved = await states.save("a", MESSAGES, going);
  assert.deepEqual(await states.load("a"), saved);
  assert.deepEqual(await states.save("a", MESSAGES, going), saved);
  assert.deepEqual(done, ["compute", "adopt", "adopt"]);
});

test("one that is replaced while it is read isn't there, and the new one stays", async () => {
  await statesOf([1, 2, 3]).states.save("a", MESSAGES, going);
  const other = statesOf([4, 5, 6, 7]);
  const replace = async () => void (await other.states.save("a", MESSAGES, going));
  const { states, done } = statesOf([1, 2, 3], { onLayer: replace });
  assert.equal(await states.load("a"), null);
  assert.deepEqual(done, []);
  assert.deepEqual((await store.list()).map(({ tokens }) => tokens), [4]);
});

test("one that is deleted before its first layer is read isn't there", async () => {
  const { states, done } = statesOf([1, 2, 3]);
  const { bundleUrl } = await states.save("a", MESSAGES, going);
  const match = cache.match.bind(cache);
  cache.match = async (url) => {
    if (url.endsWith("/0")) await store.deleteOf(`${bundleUrl}mlc-lock.json`);
    return match(url);
  };
  assert.equal(await states.load("a"), null);
  assert.deepEqual(done, ["compute"]);
});

test("one of another device isn't there, and stays for that", async () => {
  await statesOf([1, 2, 3], { adapter: "a" }).states.save("a", MESSAGES, going);
  assert.equal(await statesOf([1, 2, 3], { adapter: "b" }).states.load("a"), null);
  assert.notEqual(await statesOf([1, 2, 3], { adapter: "a" }).states.load("a"), null);
});

test("one whose tokens are in the KV cache isn't read again", async () => {
  const saved = await statesOf([1, 2, 3]).states.save("a", MESSAGES, going);
  const { states, done } = statesOf([1, 2, 3], { holds: true });
  assert.deepEqual(await states.load("a"), saved);
  assert.deepEqual(done, []);
});

test("one that is damaged, or of another shape, is told of once and deleted", async () => {
  const damage = async () => {
    const url = (await cache.keys()).find(({ url }) => url.endsWith("/1"))?.url ?? "";
    await cache.put(url, new Response(new Uint8Array([7, 7, 7])));
  };
  for (const [device, spoil] of [[{}, damage], [{ tokenBytes: 2 }, async () => {}]] as const) {
    await statesOf([1, 2, 3]).states.save("a", MESSAGES, going);
    await spoil();
    const { states, done } = statesOf([1, 2, 3], device);
    for (let time = 0; time < 2; time++) assert.equal(await states.load("a"), null);
    assert.deepEqual([done, await store.list()], [["damaged"], []]);
  }
});

test("one that leaves no room for a question is refused", async () => {
  const { states, done } = statesOf([1, 2, 3], { contextWindowSize: 3 });
  await assert.rejects(states.save("a", MESSAGES, going), { code: "context_length_exceeded" });
  assert.deepEqual(done, []);
});

test("one that is too large is refused before it is computed", async () => {
  const { states, done } = statesOf(Array.from({ length: 51 }, (_, n) => n));
  await assert.rejects(states.save("a", MESSAGES, going), { code: "quota_exceeded" });
  assert.deepEqual(done, []);
});

test("what can't be a state's name is a bad request, wherever it is given", async () => {
  const { states, done } = statesOf([1, 2, 3]);
  const bundleUrl = "https://site.example/bundles/m/";
  const refused = { name: "EngineError", code: "invalid_request", param: "name" };
  for (const name of ["\ud800", "a\udc00", "", "a".repeat(201), undefined, null, {}, ["x"]] as string[]) {
    await assert.rejects(states.save(name, MESSAGES, going), refused);
    await assert.rejects(states.load(name), refused);
    const action = { action: "delete-state", bundleUrl, name } as const;
    await assert.rejects(carryOut(action, { deleteState: async () => done.push("delete") } as any, going), refused);
  }
  assert.deepEqual(done, []);
  assert.equal((await states.save("\u{1f600}", MESSAGES, going)).name, "\u{1f600}");
});
