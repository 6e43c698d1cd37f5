import assert from "node:assert/strict";
import { test } from "node:test";
import { Sequence, type Text } from "../../web/worker/engine/sequence.ts";

const GRID = 8;
const going = new AbortController().signal;
const TOKENS = Array.from({ length: 30 }, (_, n) => n);

/** A sequence on a device that notes its chunks' lengths; each takes `ms`. */
function sequenceOf(prefillChunkSize = GRID, ms = 0) {
  const chunks: number[] = [];
  const held: number[] = [];
  const runner = {
    metadata: { prefill_chunk_size: prefillChunkSize },
    forward: async (chunk: readonly number[]) => {
      assert.notEqual(chunk.length, 0);
      chunks.push(chunk.length);
      held.push(...chunk);
      const end = performance.now() + ms;
      while (performance.now() < end);
      return Float32Array.of(held.length);
    },
    popTokens: (count: number) => void held.splice(-count),
  };
  return { sequence: new Sequence(runner as any), chunks, held };
}

function textOf(tokens: readonly number[], promptLength = tokens.length, deterministic = true): Text {
  return { tokens, promptLength, deterministic };
}

test("a deterministic prompt is computed by the grid, and its answer token by token", async () => {
  const { sequence, chunks, held } = sequenceOf();
  const tokens = TOKENS.slice(0, 22);
  const { logits } = await sequence.logitsAfter(textOf(tokens, 19), going);
  assert.deepEqual(chunks, [8, 8, 3, 1, 1, 1]);
  assert.deepEqual(held, tokens);
  assert.deepEqual([...logits], [22]);
});

test("time shapes no chunk of a deterministic prompt", async () => {
  const { sequence, chunks } = sequenceOf(64, 200);
  const tokens = Array.from({ length: 150 }, (_, n) => n);
  await sequence.logitsAfter(textOf(tokens), going);
  assert.deepEqual(chunks, [64, 64, 22]);
});

test("another deterministic prompt takes over whole chunks of the grid alone", async () => {
  const { sequence, chunks } = sequenceOf();
  await sequence.logitsAfter(textOf(TOKENS.slice(0, 21)), going);
  chunks.length = 0;
  const { cached } = await sequence.logitsAfter(textOf(TOKENS.slice(0, 23)), going);
  assert.equal(cached, 16);
  assert.deepEqual(chunks, [7]);
});

test("an answer that goes on is fed its last token alone", async () => {
  const { sequence, chunks } = sequenceOf();
  const tokens = TOKENS.slice(0, 10);
  const text = textOf(tokens, 10);
  await sequence.logitsAfter(text, going);
  tokens.push(5);
  const { cached } = await sequence.logitsAfter(text, going);
  assert.equal(cached, 10);
  assert.deepEqual(chunks, [8, 2, 1]);
});

test("other prompts take over a prefix of any length", async () => {
  const { sequence, chunks, held } = sequenceOf(64);
  await sequence.logitsAfter(textOf(TOKENS.slice(0, 21), 21, false), going);
  const other = [...TOKENS.slice(0, 13), 99, 98];
  const { cached } = await sequence.logitsAfter(textOf(other, 15, false), going);
  assert.equal(cached, 13);
  assert.deepEqual(chunks, [21, 2]);
  assert.deepEqual(held, other);
});

test("on a slow device chunks shrink, but not to nothing", async () => {
  const { sequence, chunks } = sequenceOf(64, 200);
  const tokens = Array.from({ length: 60 }, (_, n) => n);
  await sequence.logitsAfter(textOf(tokens, 60, false), going);
  // 32 tokens took 200 ms, so 16 may take 100 ms; then 8, the least.
  assert.deepEqual(chunks, [32, 8, 8, 8, 4]);
});

test("an abort ends a prompt between two chunks", async () => {
  const { sequence, chunks } = sequenceOf();
  const controller = new AbortController();
  const computing = sequence.logitsAfter(textOf(TOKENS), controller.signal);
  controller.abort();
  await assert.rejects(computing, { name: "AbortError" });
  assert.deepEqual(chunks, [8]);
});

test("what is cleared is computed again", async () => {
  const { sequence, chunks, held } = sequenceOf();
  await sequence.logitsAfter(textOf(TOKENS.slice(0, 8)), going);
  sequence.clear();
  assert.deepEqual(held, []);
  const { cached } = await sequence.logitsAfter(textOf(TOKENS.slice(0, 8)), going);
  assert.equal(cached, 0);
  assert.deepEqual(chunks, [8, 8]);
});
