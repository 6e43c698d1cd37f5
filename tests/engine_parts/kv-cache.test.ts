import assert from "node:assert/strict";
import { test } from "node:test";
import { KvCache } from "../../web/worker/engine/kv-cache.ts";
import { PlainStore } from "./kv-store.ts";

const GRID = 4;
const anyChunks = { onGrid: false };
const onGrid = { onGrid: true };

/** So many tokens that begin with `first`. */
const range = (length: number, first = 0): number[] => Array.from({ length }, (_, n) => first + n);

function cacheOf(totalPages?: number): { cache: KvCache; store: PlainStore } {
  const store = new PlainStore(totalPages);
  return { cache: new KvCache(store, GRID), store };
}

/** Feeds a text's tokens in chunks, by default all that are new at once; how many were there already. */
function feed(
  { cache, store }: { cache: KvCache; store: PlainStore },
  tokens: readonly number[],
  { chunks, reuse = anyChunks }: { chunks?: readonly number[]; reuse?: { onGrid: boolean; owner?: object } } = {},
): number {
  const kept = cache.begin(tokens, reuse);
  for (const count of chunks ?? [tokens.length - kept]) {
    const chunk = tokens.slice(cache.length, cache.length + count);
    cache.makeRoom(chunk.length);
    store.forward(chunk, cache.sequence);
    cache.append(chunk);
  }
  assert.deepEqual(store.tokens(cache.sequence), tokens);
  return kept;
}

test("a prompt that goes on needs only what is new", () => {
  const fed = cacheOf();
  feed(fed, [1, 2, 3]);
  assert.equal(feed(fed, [1, 2, 3, 4, 5]), 3);
  assert.deepEqual(fed.store.log, []);
});

test("little that differs is dropped", () => {
  const fed = cacheOf();
  feed(fed, [1, 2, 3, 4]);
  assert.equal(feed(fed, [1, 2, 9, 4]), 2);
  assert.deepEqual(fed.store.log, ["pop 0 2"]);
});

test("of a prompt that is cached whole the last token is fed again", () => {
  const fed = cacheOf();
  feed(fed, range(40));
  assert.equal(feed(fed, range(40)), 39);
  assert.deepEqual(fed.store.log, ["pop 0 1"]);
});

test("the grid is the library's chunk if that is smaller than 64", () => {
  assert.equal(cacheOf().cache.grid, 4);
  assert.equal(new KvCache(new PlainStore(), 2048).grid, 64);
});

test("two chats with one beginning are both kept, and neither is computed again", () => {
  const fed = cacheOf();
  const [first, second] = [range(60), [...range(30), ...range(30, 100)]];
  assert.equal(feed(fed, first), 0);
  assert.equal(feed(fed, second), 30);
  assert.deepEqual(fed.store.log, ["fork 0 1 30"]);
  for (const [chat, length] of [[first, 70], [second, 71], [first, 72]] as const) {
    const before = chat.length;
    chat.push(...range(length - before, 200));
    assert.equal(feed(fed, chat), before);
  }
  assert.deepEqual(fed.store.log, ["fork 0 1 30"]);
});

test("texts that have nothing in common are both kept", () => {
  const fed = cacheOf();
  feed(fed, range(20));
  feed(fed, range(20, 50));
  assert.equal(feed(fed, range(21)), 20);
  assert.equal(feed(fed, range(21, 50)), 20);
});

test("the longest beginning is taken", () => {
  const fed = cacheOf();
  feed(fed, [...range(30), ...range(30, 100)]);
  feed(fed, [...range(50), ...range(30, 200)]);
  feed(fed, [...range(20), ...range(30, 300)]);
  assert.equal(feed(fed, [...range(50), 7]), 50);
});

test("the least recently used gives its last pages away, and keeps its beginning", () => {
  const fed = cacheOf(10);
  feed(fed, range(64));
  feed(fed, range(64, 100));
  feed(fed, range(64, 200));
  // 4 + 4 + 4 pages of 10.
  assert.deepEqual(fed.store.log, ["pop 0 32"]);
  assert.equal(feed(fed, range(65)), 32);
  assert.deepEqual(fed.store.log, ["pop 0 32", "pop 1 48"]);
});

test("a text whose every page is needed is forgotten", () => {
  const fed = cacheOf(10);
  feed(fed, range(20));
  feed(fed, range(150, 100));
  assert.deepEqual(fed.store.log, ["remove 0"]);
  assert.equal(feed(fed, range(160, 100)), 150);
});

test("an old end isn't kept where that would cost other texts more", () => {
  const fed = cacheOf(10);
  feed(fed, range(64));
  feed(fed, range(80, 100));
  // Both ends would take 5 pages, 4 of them from the first text, and save 2.
  assert.equal(feed(fed, [...range(60, 100), ...range(20, 300)]), 60);
  assert.deepEqual(fed.store.log, ["pop 1 20"]);
  assert.equal(feed(fed, range(65)), 64);
});

test("a text that grows takes the end of the one that it branched off, where there is no other", () => {
  const fed = cacheOf(10);
  feed(fed, range(96));
  assert.equal(feed(fed, [...range(32), ...range(64, 300)]), 32);
  assert.deepEqual(fed.store.log, ["fork 0 1 32", "pop 0 32"]);
});

test("a text that is in use when another branches off isn't the one to give pages", () => {
  const fed = cacheOf(10);
  feed(fed, range(64));
  feed(fed, range(48, 100));
  // Of the first, which comes last now, 2 pages are copied; the second has to give them.
  assert.equal(feed(fed, [...range(40), ...range(20, 300)]), 40);
  assert.deepEqual(fed.store.log, ["fork 0 2 40", "pop 1 16"]);
});

test("what doesn't fit twice isn't copied", () => {
  const fed = cacheOf(10);
  feed(fed, range(144));
  // The rest has 4 pages, and the new text would need 5 besides: 80 tokens don't fit.
  assert.equal(feed(fed, [...range(80), 7]), 80);
  assert.deepEqual(fed.store.log, ["pop 0 64"]);
});

test("what is worth its place isn't copied either where both don't fit", () => {
  const fed = cacheOf(10);
  feed(fed, range(144));
  // Of the 9 pages 5 would be kept for 4 that are lost; but 4 pages of the copy don't fit beside the 9.
  assert.equal(feed(fed, [...range(64), 7]), 64);
  assert.deepEqual(fed.store.log, ["pop 0 80"]);
});

test("a state that is read takes the pages of others that it needs", () => {
  const fed = cacheOf(10);
  feed(fed, range(144));
  fed.cache.adopt(range(40, 200), 0);
  assert.deepEqual(fed.store.log, ["pop 0 32"]);
});

test("at most 64 sequences are kept", () => {
  const fed = cacheOf();
  for (let chat = 0; chat < 65; chat++) feed(fed, range(20, 100 * chat));
  assert.equal(fed.store.held.size, 64);
  assert.deepEqual(fed.store.log, ["remove 0"]);
});

test("a deterministic prompt takes over whole chunks of the grid alone", () => {
  const prompt = range(10, 1);
  for (const [chunks, kept] of [
    [[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]], 8],
    [[[1, 2, 3, 4], [5, 6, 7, 8], [9]], 8],
    [[[1, 2, 3, 4], [5, 6], [7, 8], [9, 10]], 4],
    [[[1, 2], [3, 4], [5, 6, 7, 8]], 0],
    [[[1, 2], [3, 4, 5, 6], [7, 8, 9]], 0],
    [[[1, 2, 3, 4], [5, 6, 7, 0]], 4],
    [[[0, 2, 3, 4]], 0],
    [[[1], [2], [3], [4], [5]], 0],
  ] as const) {
    const fed = cacheOf();
    feed(fed, chunks.flat(), { chunks: chunks.map(({ length }) => length) });
    assert.equal(fed.cache.begin(prompt, onGrid), kept, JSON.stringify(chunks));
  }
});

test("a fork is on the grid as far as its parent was", () => {
  const fed = cacheOf();
  feed(fed, range(60), { chunks: [...Array(8).fill(4), 28] });
  assert.equal(feed(fed, [...range(42), 7]), 42);
  assert.equal(fed.cache.begin([...range(42), 7, 8, 9], onGrid), 32);
  assert.equal(feed(fed, [...range(30), 7]), 30);
  assert.equal(fed.cache.begin([...range(30), 7, 8, 9], onGrid), 28);
});

test("what was dropped and computed otherwise is no longer on the grid", () => {
  const fed = cacheOf();
  feed(fed, range(8), { chunks: [4, 4] });
  assert.equal(feed(fed, [...range(7), 99]), 7);
  assert.equal(fed.cache.begin([...range(7), 99, 5], onGrid), 4);
});

test("its owner goes on wherever it stopped, unless something was dropped since", () => {
  const fed = cacheOf(5);
  const reuse = { onGrid: true, owner: {} };
  feed(fed, range(41), { chunks: [...Array(10).fill(4), 1], reuse });
  assert.equal(feed(fed, range(42), { reuse }), 41);
  feed(fed, range(20, 100));
  assert.equal(feed(fed, range(43), { reuse, chunks: Array(8).fill(4).concat(11) }), 42);
  feed(fed, range(40, 100));
  // Two of three pages were needed.
  assert.equal(fed.cache.begin(range(44), reuse), 32);
});

test("a failed step's sequence is forgotten", () => {
  const fed = cacheOf();
  feed(fed, range(20));
  feed(fed, range(20, 50));
  fed.cache.drop();
  assert.equal(feed(fed, range(21, 50)), 0);
  assert.equal(feed(fed, range(21)), 20);
});
