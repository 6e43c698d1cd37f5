import assert from "node:assert/strict";
import { test } from "node:test";
import { Sequence, type Text } from "../../web/worker/engine/sequence.ts";
import { dice } from "./dice.ts";
import { PlainStore } from "./kv-store.ts";

const GRID = 8;
const going = new AbortController().signal;
const TOKENS = Array.from({ length: 30 }, (_, n) => n);

/** Sequences on a device that notes its chunks' lengths; each takes `ms`. */
function sequenceOf(prefillChunkSize = GRID, ms = 0, store = new PlainStore()) {
  const chunks: number[] = [];
  const forward = async (chunk: readonly number[], sequence: number) => {
    assert.notEqual(chunk.length, 0);
    chunks.push(chunk.length);
    const end = performance.now() + ms;
    while (performance.now() < end);
    return Float64Array.of(store.forward(chunk, sequence));
  };
  const runner = {
    metadata: { prefill_chunk_size: prefillChunkSize },
    sequences: store,
    gpu: { explain: async (error: unknown) => error },
    forward,
    append: async (chunk: readonly number[], sequence: number) => void (await forward(chunk, sequence)),
  };
  const states = {
    async *readState(sequence: number) {
      yield store.read(sequence);
    },
    writeState: async (sequence: number, layers: AsyncIterable<Uint8Array>) => {
      for await (const layer of layers) store.write(sequence, layer);
    },
  };
  Object.assign(runner, states);
  const held = (): number[][] => [...store.held.keys()].map((number) => store.tokens(number));
  return { sequence: new Sequence(runner as any), runner, chunks, held };
}

function textOf(tokens: readonly number[], promptLength = tokens.length, deterministic = true): Text {
  return { tokens, promptLength, deterministic };
}

test("a deterministic prompt is computed by the grid, and its answer token by token", async () => {
  const { sequence, chunks, held } = sequenceOf();
  const tokens = TOKENS.slice(0, 22);
  const { logits } = await sequence.logitsAfter(textOf(tokens, 19), going);
  assert.deepEqual(chunks, [8, 8, 3, 1, 1, 1]);
  assert.deepEqual(held(), [tokens]);
  assert.equal(logits.length, 1);
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
  assert.deepEqual(held(), [other]);
});

test("on a slow device chunks shrink, but not to nothing", async () => {
  const { sequence, chunks } = sequenceOf(64, 200);
  const tokens = Array.from({ length: 60 }, (_, n) => n);
  await sequence.logitsAfter(textOf(tokens, 60, false), going);
  // 32 tokens took 200 ms, so 16 may take 100 ms; then 8, the least.
  assert.deepEqual(chunks, [32, 8, 8, 8, 4]);
});

/** A device whose chunks are done when the test says so. */
function slowly(runner: ReturnType<typeof sequenceOf>["runner"]) {
  const waiting: ((error?: Error) => void)[] = [];
  const { append } = runner;
  runner.append = async (chunk, sequence) => {
    const done = new Promise<void>((resolve, reject) => {
      waiting.push((error) => (error ? reject(error) : resolve()));
    });
    await append(chunk, sequence);
    await done;
  };
  return async (error?: Error): Promise<void> => {
    waiting.shift()?.(error);
    await new Promise((resolve) => setTimeout(resolve));
  };
}

test("a quick device has its next chunk before it is done, and no third one", async () => {
  const { sequence, runner, chunks, held } = sequenceOf();
  const done = slowly(runner);
  const computing = sequence.logitsAfter(textOf(TOKENS), going);
  // How quick it is isn't known before the first one is done.
  for (const given of [1, 3, 4]) {
    assert.equal(chunks.length, given);
    await done();
  }
  await done();
  await computing;
  assert.deepEqual(held(), [TOKENS]);
});

test("chunks that fail when their prompt is stopped leave nothing", async () => {
  const { sequence, runner, chunks, held } = sequenceOf();
  const done = slowly(runner);
  const controller = new AbortController();
  const computing = sequence.logitsAfter(textOf(TOKENS), controller.signal);
  computing.catch(() => undefined);
  await done();
  controller.abort();
  await done();
  await done(new Error("refused"));
  await assert.rejects(computing, /refused/);
  assert.equal(chunks.length, 3);
  assert.deepEqual(held(), []);
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
  assert.deepEqual(held(), []);
  const { cached } = await sequence.logitsAfter(textOf(TOKENS.slice(0, 8)), going);
  assert.equal(cached, 0);
  assert.deepEqual(chunks, [8, 8]);
});

test("a step that fails leaves nothing of its sequence, and the others as they were", async () => {
  const { sequence, runner, held } = sequenceOf(64);
  const first = TOKENS.slice(0, 20);
  await sequence.logitsAfter(textOf(first, 20, false), going);
  const { forward } = runner;
  runner.forward = () => Promise.reject(new Error("lost"));
  await assert.rejects(sequence.logitsAfter(textOf([90, 91, 92], 3, false), going), /lost/);
  assert.deepEqual(held(), [first]);
  runner.forward = forward;
  const { cached } = await sequence.logitsAfter(textOf([...first, 5], 21, false), going);
  assert.equal(cached, 20);
});

test("a device that is lost between steps is told as such", async () => {
  const store = new PlainStore();
  const { sequence, runner } = sequenceOf(GRID, 0, store);
  await sequence.logitsAfter(textOf(TOKENS.slice(0, 20)), going);
  const lost = Object.assign(new Error("the GPU was lost"), { code: "device_lost" });
  store.popTokens = store.addSequence = () => {
    throw new TypeError("an object of TVM is disposed of");
  };
  runner.gpu.explain = async () => lost;
  await assert.rejects(sequence.logitsAfter(textOf([...TOKENS.slice(0, 12), 99]), going), { code: "device_lost" });
  const layers = (async function* () {})();
  await assert.rejects(sequence.adopt(TOKENS, { onGrid: 24, layers }), { code: "device_lost" });
});

/** A text's logits with nothing cached. */
async function alone(text: Text, prefillChunkSize = GRID): Promise<number[]> {
  const { sequence } = sequenceOf(prefillChunkSize);
  const copy = { ...text, tokens: text.tokens.slice(0, text.promptLength) };
  for (;;) {
    const { logits } = await sequence.logitsAfter(copy, going);
    const next = text.tokens[copy.tokens.length];
    if (next === undefined) return [...logits];
    copy.tokens.push(next);
  }
}

test("chats in any order, cut short, branched, in turns: the bits of a fresh computation, in few pages", async () => {
  const roll = dice(3);
  const window = 160;
  // Pages end within its chunks.
  const grid = 12;
  const { sequence, held } = sequenceOf(grid, 0, new PlainStore(window / 16 + 1));
  const texts: { tokens: number[]; promptLength: number; deterministic: boolean }[] = [];
  const system = Array.from({ length: 37 }, () => roll(9));
  for (let step = 0; step < 1500; step++) {
    const old = texts[roll(texts.length || 1)];
    if (!old || roll(6) === 0) {
      const begin = roll(3) === 0 || !old ? system : old.tokens.slice(0, 1 + roll(old.tokens.length));
      const tokens = [...begin, ...Array.from({ length: 1 + roll(30) }, () => roll(9))].slice(0, window - 20);
      texts.push({ tokens, promptLength: tokens.length, deterministic: roll(4) > 0 });
      if (texts.length > 8) texts.splice(roll(8), 1);
    } else if (old.tokens.length < window) {
      const { logits, cached } = await sequence.logitsAfter(old, going);
      assert.ok(cached < old.tokens.length);
      assert.ok(held().some((tokens) => String(tokens) === String(old.tokens)));
      if (old.deterministic) assert.deepEqual([...logits], await alone(old, grid));
      old.tokens.push(roll(9));
    }
  }
});

/** All that a state's layers give, to be given again. */
async function collected(layers: AsyncIterable<Uint8Array<ArrayBuffer>>) {
  const found: Uint8Array<ArrayBuffer>[] = [];
  for await (const layer of layers) found.push(layer);
  return async function* () {
    yield* found;
  };
}

test("a state that is read back gives the bits of a computation", async () => {
  const first = sequenceOf();
  const tokens = TOKENS.slice(0, 21);
  const { onGrid, layers } = await first.sequence.compute(tokens, going);
  const again = await collected(layers);
  assert.equal(onGrid, 16);
  const second = sequenceOf();
  await second.sequence.adopt(tokens, { onGrid, layers: again() });
  const text = textOf([...tokens, 77, 78]);
  const { logits, cached } = await second.sequence.logitsAfter(text, going);
  assert.equal(cached, 16);
  assert.deepEqual([...logits], await alone(text));
  const plain = await second.sequence.logitsAfter(textOf([...tokens, 5], 22, false), going);
  assert.equal(plain.cached, 21);
});

test("a state is there where its tokens are, on the grid if they must be", async () => {
  const { sequence } = sequenceOf(64);
  await sequence.logitsAfter(textOf(TOKENS.slice(0, 25), 25, false), going);
  assert.equal(sequence.holds(TOKENS.slice(0, 25), 0), true);
  assert.equal(sequence.holds(TOKENS.slice(0, 20), 0), true);
  assert.equal(sequence.holds(TOKENS.slice(0, 26), 0), false);
  assert.equal(sequence.holds(TOKENS.slice(0, 20), 8), false);
});

test("a state that can't be read leaves nothing", async () => {
  const { sequence, held } = sequenceOf();
  async function* damaged(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    throw new Error("damaged");
  }
  const adopting = sequence.adopt(TOKENS, { onGrid: 24, layers: damaged() });
  await assert.rejects(adopting, /damaged/);
  assert.deepEqual(held(), []);
});

test("an answer whose end another text took goes on with the same bits", async () => {
  const { sequence } = sequenceOf(12, 0, new PlainStore(4));
  const text = { tokens: TOKENS.slice(0, 30), promptLength: 29, deterministic: true };
  await sequence.logitsAfter(text, going);
  await sequence.logitsAfter(textOf(TOKENS.map((token) => 50 + token), 30, false), going);
  await sequence.logitsAfter(textOf([90, 91], 2, false), going);
  text.tokens.push(3);
  const { logits, cached } = await sequence.logitsAfter(text, going);
  // Of 16 tokens that were left.
  assert.equal(cached, 12);
  assert.deepEqual([...logits], await alone(text, 12));
});
