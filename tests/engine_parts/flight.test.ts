/** Tokens that a device draws ahead of the host, against the same ones drawn one by one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Sequence, type OpenText } from "../../web/worker/engine/sequence.ts";
import { dice } from "./dice.ts";
import { PlainStore } from "./kv-store.ts";

const CHUNK = 12;
const WINDOW = 96;
const WORDS = 9;
const going = new AbortController().signal;

/** A device that computes when it is told, in order; what it drew is known when the test says so. */
class Device {
  readonly store = new PlainStore(WINDOW / 16 + 1);
  readonly metadata = { prefill_chunk_size: CHUNK };
  readonly sequences = this.store;
  readonly gpu = { explain: async (error: unknown) => error };
  readonly draws = true;
  /** Whether everything is known at once. */
  prompt = true;
  /** Steps that draw, by the places of their tokens in the text. */
  readonly told: number[] = [];
  mostUnderWay = 0;
  fails: Error | null = null;
  #drawn = NaN;
  readonly #waiting: (() => void)[] = [];

  async append(chunk: readonly number[], sequence: number): Promise<void> {
    this.store.forward(chunk, sequence);
  }

  async draw(chunk: readonly number[] | null, sequence: number, request: { place: number }): Promise<unknown> {
    if (this.fails) throw this.fails;
    const bits = this.store.forward(chunk ?? [this.#drawn], sequence);
    assert.equal(this.store.of(sequence).length, request.place);
    this.told.push(request.place);
    const id = (this.#drawn = nextOf(bits, request.place));
    if (!this.prompt) {
      const known = new Promise<void>((resolve) => this.#waiting.push(resolve));
      this.mostUnderWay = Math.max(this.mostUnderWay, this.#waiting.length);
      await known;
    }
    return { token: { id, score: 0 } };
  }

  /** Lets the host know the oldest token that it doesn't. */
  tell(): void {
    this.#waiting.shift()?.();
  }

  /** What the sequences hold. */
  get held(): number[][] {
    return [...this.store.held.keys()].map((number) => this.store.tokens(number));
  }
}

function nextOf(bits: number, place: number): number {
  return (Math.imul(bits ^ place, 0x9e3779b1) >>> 16) % WORDS;
}

interface Answer extends OpenText {
  readonly tokens: number[];
}

/** A text of at most so many tokens; `foresees` as where no penalty counts what was drawn. */
function answerOf(prompt: readonly number[], { most = WINDOW, deterministic = true, foresees = true } = {}): Answer {
  const tokens = [...prompt];
  const drawing = (ahead: number) => {
    if (ahead > 0 && (!foresees || tokens.length + ahead >= most)) return null;
    return { place: tokens.length + ahead } as any;
  };
  return { tokens, promptLength: prompt.length, deterministic, drawing };
}

async function goOn(sequence: Sequence, answer: Answer, signal = going): Promise<number> {
  const { logits: drawn, cached } = await sequence.drawAfter(answer, signal);
  answer.tokens.push((drawn as any).token.id);
  return cached;
}

function sequenceOf(device: Device): Sequence {
  return new Sequence(device as any);
}

/** The answer to a prompt, which begins with some tokens, on a device that has nothing else, a token at a time. */
async function alone(prompt: readonly number[], length: number, begin: readonly number[] = []): Promise<number[]> {
  const sequence = sequenceOf(new Device());
  const answer = answerOf(prompt, { foresees: false });
  while (answer.tokens.length < length) {
    await goOn(sequence, answer);
    const place = answer.tokens.length - 1;
    answer.tokens[place] = begin[place - prompt.length] ?? (answer.tokens[place] as number);
  }
  return answer.tokens;
}

test("the next token is on its way before the host knows the one before it, and no more than that", async () => {
  const device = new Device();
  device.prompt = false;
  const answer = answerOf([1, 2, 3], { most: 7 });
  const sequence = sequenceOf(device);
  for (const told of [[3, 4], [3, 4, 5], [3, 4, 5, 6], [3, 4, 5, 6]]) {
    const step = goOn(sequence, answer);
    await Promise.resolve();
    assert.deepEqual(device.told, told);
    device.tell();
    await step;
  }
  assert.equal(device.mostUnderWay, 2);
  assert.deepEqual(answer.tokens, await alone([1, 2, 3], 7));
});

test("where a token decides how the next one is drawn, none is drawn ahead", async () => {
  const device = new Device();
  const answer = answerOf([1, 2, 3], { foresees: false });
  const sequence = sequenceOf(device);
  for (const told of [[3], [3, 4], [3, 4, 5]]) {
    await goOn(sequence, answer);
    assert.deepEqual(device.told, told);
  }
});

test("what was drawn behind an answer's end leaves no token and no page", async () => {
  const device = new Device();
  const sequence = sequenceOf(device);
  const answer = answerOf(Array.from({ length: 14 }, (_, n) => n % WORDS));
  for (let count = 0; count < 3; count++) await goOn(sequence, answer);
  assert.equal(device.held[0]?.length, 17);
  const known = answer.tokens.slice(0, -1);
  const next = answerOf([...answer.tokens, 5], { deterministic: false });
  assert.equal(await goOn(sequence, next), known.length);
  assert.deepEqual(device.held, [next.tokens]);
  const other = answerOf([8, 8, 8]);
  await goOn(sequence, other);
  assert.deepEqual(device.held[0], next.tokens.slice(0, -1));
});

test("a text that takes another token than the one that was drawn goes on from its own", async () => {
  const device = new Device();
  const sequence = sequenceOf(device);
  const answer = answerOf([1, 2, 3]);
  await goOn(sequence, answer);
  const taken = (answer.tokens[3] = ((answer.tokens[3] as number) + 1) % WORDS);
  await goOn(sequence, answer);
  assert.deepEqual(answer.tokens, await alone([1, 2, 3], 5, [taken]));
});

test("an answer that is stopped goes no further, and what is under way is dropped", async () => {
  const device = new Device();
  const sequence = sequenceOf(device);
  const prompt = Array.from({ length: 20 }, (_, n) => n % WORDS);
  const answer = answerOf(prompt);
  await goOn(sequence, answer);
  const stopped = AbortSignal.abort();
  await assert.rejects(goOn(sequence, answer, stopped), { name: "AbortError" });
  assert.deepEqual(device.told, [20, 21]);
  await goOn(sequence, answerOf([7, 7]));
  assert.deepEqual(device.held[0], prompt);
});

test("a step that fails behind an answer's end fails no other answer", async () => {
  const device = new Device();
  const sequence = sequenceOf(device);
  const answer = answerOf([1, 2, 3]);
  const first = goOn(sequence, answer);
  device.fails = new Error("no such buffer");
  await first;
  device.fails = null;
  const other = answerOf([1, 2, 3, 4]);
  for (let count = 0; count < 3; count++) await goOn(sequence, other);
  assert.deepEqual(other.tokens, await alone([1, 2, 3, 4], 7));
});

test("answers in turns, cut short and stopped at any moment: the tokens of answers that are drawn one by one", async () => {
  const roll = dice(11);
  const device = new Device();
  const sequence = sequenceOf(device);
  const answers: Answer[] = [];
  for (let turn = 0; turn < 300; turn++) {
    const old = answers[roll(answers.length || 1)]?.tokens ?? [];
    const begin = old.slice(0, roll(old.length + 1));
    const prompt = [...begin, ...Array.from({ length: 1 + roll(20) }, () => roll(WORDS))].slice(0, WINDOW - 20);
    const answer = answerOf(prompt, { most: prompt.length + 1 + roll(19), foresees: roll(5) > 0 });
    const length = prompt.length + 1 + roll(19);
    device.prompt = roll(2) > 0;
    while (answer.tokens.length < length) {
      const step = goOn(sequence, answer);
      // Microtasks alone lie between the host's steps.
      for (let told = false; !told; ) told = await Promise.race([step.then(() => true), tellSoon(device)]);
    }
    assert.deepEqual(answer.tokens, await alone(prompt, length));
    answers.push(answer);
    if (answers.length > 8) answers.shift();
  }
});

async function tellSoon(device: Device): Promise<boolean> {
  for (let task = 0; task < 20; task++) await Promise.resolve();
  device.tell();
  return false;
}
