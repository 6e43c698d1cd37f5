import assert from "node:assert/strict";
import { test } from "node:test";
import { Chunks, Meter, wholeCompletion } from "../../web/worker/engine/completion.ts";
import { Generation } from "../../web/worker/engine/generation.ts";
import { parseRequest } from "../../web/worker/engine/request.ts";
import { Vocabulary } from "../../web/worker/engine/vocabulary.ts";
import { golden } from "./golden.ts";

const PIECES = ["Ġone", "Ġtwo", "Ġthree", "Ã", "©", "<end>"];
const [ONE, TWO, THREE, FIRST_BYTE, SECOND_BYTE, END] = PIECES.keys() as Iterable<number>;
const vocabulary = new Vocabulary({
  added_tokens: [{ id: END, content: "<end>", special: true }],
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: Object.fromEntries(PIECES.slice(0, -1).map((piece, id) => [piece, id])) },
});
const model = { ...golden("requests").model, vocabSize: PIECES.length };
const PROMPT = [THREE, THREE];

function generationOf(params: object, contextWindowSize = 100): Generation {
  const messages = [{ role: "user" as const, content: "Count." }];
  const request = parseRequest({ messages, temperature: 0, ...params }, model);
  const stopTokens = new Set([END as number]);
  const given = { request, vocabulary, activeVocabSize: PIECES.length, stopTokens, contextWindowSize, deterministic: false };
  return new Generation({ ...given, prompt: PROMPT as number[], seed: 0 }, 0);
}

/** The events of an answer that draws these tokens, each with the logarithm of its probability. */
function eventsOf(answer: Generation, ...tokens: (number | undefined)[]) {
  return tokens.map((token) => {
    const logits = new Float32Array(PIECES.length);
    logits[token as number] = 20;
    return answer.accept(logits);
  });
}

test("a stop token ends the answer and is not a part of it", () => {
  const answer = generationOf({});
  const events = eventsOf(answer, ONE, END);
  assert.deepEqual(events.map(({ text, finish }) => [text, finish]), [[" one", null], ["", "stop"]]);
  assert.ok(answer.finished);
  assert.equal(answer.length, 2);
});

test("ignore_eos goes on behind a stop token", () => {
  const answer = generationOf({ ignore_eos: true, max_tokens: 3 });
  const events = eventsOf(answer, ONE, END, TWO);
  assert.deepEqual(events.map(({ finish }) => finish), [null, null, "length"]);
  assert.equal(events.map(({ text }) => text).join(""), " one two");
});

test("at its length an answer gives what was held back", () => {
  const held = eventsOf(generationOf({ max_tokens: 2, stop: [" two three"] }), ONE, TWO);
  assert.deepEqual(held.map(({ text, finish }) => [text, finish]), [[" one", null], [" two", "length"]]);
});

test("the context's end is an answer's", () => {
  const events = eventsOf(generationOf({}, PROMPT.length + 2), ONE, TWO);
  assert.deepEqual(events.map(({ finish }) => finish), [null, "length"]);
});

test("a stop string ends the answer before it", () => {
  const answer = generationOf({ stop: ["two"] });
  const events = eventsOf(answer, ONE, TWO);
  assert.equal(events.map(({ text }) => text).join(""), " one ");
  assert.equal(events.at(-1)?.finish, "stop");
});

test("log probabilities come once, with the text that they belong to", () => {
  const answer = generationOf({ logprobs: true, top_logprobs: 2, max_tokens: 4 });
  const events = eventsOf(answer, ONE, FIRST_BYTE, SECOND_BYTE, TWO);
  const named = events.map(({ text, logprobs }) => [text, logprobs.map(({ bytes }) => bytes)]);
  const bytes = (text: string) => [...new TextEncoder().encode(text)];
  assert.deepEqual(named, [
    [" one", [bytes(" one")]],
    ["", []],
    ["é", [[0xc3], [0xa9]]],
    [" two", [bytes(" two")]],
  ]);
  const [first] = events[0]?.logprobs ?? [];
  assert.equal(first?.token, " one");
  assert.ok(Math.abs(first?.logprob ?? 1) < 1e-6);
  assert.deepEqual(first?.top_logprobs.map(({ token }) => token), [" one", " two"]);
});

test("a stream names the role first, and its end in a chunk of its own", () => {
  const chunks = new Chunks("tiny", { logprobs: false, usage: true });
  const [text, end] = eventsOf(generationOf({}), ONE, END).flatMap((event) => [...chunks.of(event)]);
  const choice = { index: 0, logprobs: null };
  assert.deepEqual(chunks.role(0).choices, [
    { ...choice, delta: { role: "assistant", content: "" }, finish_reason: null },
  ]);
  assert.deepEqual(text?.choices, [{ ...choice, delta: { content: " one" }, finish_reason: null }]);
  assert.deepEqual(end?.choices, [{ ...choice, delta: {}, finish_reason: "stop" }]);
  assert.equal(text?.usage, null);
  assert.equal(text?.id, end?.id);
});

test("a whole answer has all of its texts and says why each choice ended", () => {
  const ended = eventsOf(generationOf({}), ONE, TWO, END);
  const cut = eventsOf(generationOf({ max_tokens: 1 }), ONE);
  const usage = new Meter().usage();
  const { choices } = wholeCompletion("tiny", [ended, cut], { logprobs: false, usage });
  assert.deepEqual(
    choices.map(({ index, message, finish_reason }) => [index, message.content, finish_reason]),
    [[0, " one two", "stop"], [1, " one", "length"]],
  );
});

test("usage counts cached tokens apart, and speed without them", () => {
  const meter = new Meter();
  meter.prefilled(10, 6, 200);
  for (let n = 0; n < 3; n++) meter.drew();
  meter.decoded(100);
  meter.decoded(300);
  const { extra, ...counts } = meter.usage();
  assert.deepEqual(counts, {
    prompt_tokens: 10,
    completion_tokens: 3,
    total_tokens: 13,
    prompt_tokens_details: { cached_tokens: 6 },
  });
  assert.equal(extra?.prefill_tokens_per_s, 20);
  assert.equal(extra?.decode_tokens_per_s, 5);
  assert.equal(extra?.cached_tokens, 6);
});
