import assert from "node:assert/strict";
import { test } from "node:test";
import { Delivery } from "../../web/worker/client/delivery.ts";

type Part = { role?: string; content?: string; finish?: string; index?: number; logprobs?: string[] };

/** The chunks of one answer, under an id of its own. */
function answer(id: string, parts: Part[]): any[] {
  return parts.map(({ index = 0, finish = null, logprobs, ...delta }) => ({
    id,
    object: "chat.completion.chunk",
    created: id.length,
    model: "m",
    choices: [
      {
        index,
        delta,
        logprobs: logprobs ? { content: logprobs.map((token) => ({ token })), refusal: null } : null,
        finish_reason: finish,
      },
    ],
  }));
}

/** What a stream gets of some chunks. */
const taken = (delivery: Delivery, chunks: any[]): any[] =>
  chunks.map((chunk) => delivery.take(chunk)).filter((chunk) => chunk !== null);

const textOf = (chunks: any[], index = 0): string =>
  chunks
    .flatMap(({ choices }) => choices)
    .filter((choice) => choice.index === index)
    .map(({ delta }) => delta.content ?? "")
    .join("");

const PARTS: Part[] = [
  { role: "assistant", content: "" },
  { content: "One" },
  { content: " two" },
  { content: " three" },
  { finish: "stop" },
];

for (let given = 0; given <= PARTS.length; given++) {
  test(`an answer that ended after ${given} chunks goes on where it was`, () => {
    const delivery = new Delivery();
    const before = taken(delivery, answer("first", PARTS).slice(0, given));
    delivery.restart();
    const after = taken(delivery, answer("second", PARTS));
    const all = [...before, ...after];
    assert.deepEqual(all, answer(given > 0 ? "first" : "second", PARTS));
  });
}

test("an answer may be repeated again and again, and in other pieces", () => {
  const delivery = new Delivery();
  const all = taken(delivery, answer("a", PARTS).slice(0, 2));
  delivery.restart();
  all.push(...taken(delivery, answer("b", [{ role: "assistant", content: "" }, { content: "One t" }])));
  delivery.restart();
  all.push(...taken(delivery, answer("c", PARTS)));
  assert.equal(textOf(all), "One two three");
  assert.deepEqual([...new Set(all.map(({ id }) => id))], ["a"]);
  assert.equal(all.filter(({ choices }) => choices[0].delta.role).length, 1);
});

test("choices go on each by itself", () => {
  const parts = (content: string, index: number): Part[] => [
    { role: "assistant", content: "", index },
    { content, index },
    { content: " end", index },
    { finish: "length", index },
  ];
  const whole = [...parts("zero", 0), ...parts("one", 1)];
  const delivery = new Delivery();
  const all = taken(delivery, answer("a", whole).slice(0, 6));
  delivery.restart();
  all.push(...taken(delivery, answer("b", whole)));
  assert.deepEqual([textOf(all, 0), textOf(all, 1)], ["zero end", "one end"]);
  assert.equal(all.length, whole.length);
});

test("log probabilities come once, also those without text", () => {
  const parts: Part[] = [
    { role: "assistant", content: "" },
    { content: "a", logprobs: ["a"] },
    { content: "", logprobs: ["half"] },
    { content: "b", logprobs: ["b"] },
  ];
  for (let given = 0; given <= parts.length; given++) {
    const delivery = new Delivery();
    const all = taken(delivery, answer("x", parts).slice(0, given));
    delivery.restart();
    all.push(...taken(delivery, answer("x", parts)));
    assert.deepEqual(all, answer("x", parts), `after ${given}`);
  }
});

test("counts come once", () => {
  const usage = { id: "a", created: 1, model: "m", choices: [], usage: { total_tokens: 3 } } as any;
  const delivery = new Delivery();
  assert.deepEqual(delivery.take(usage), usage);
  delivery.restart();
  assert.equal(delivery.take({ ...usage, id: "b" }), null);
});

for (const [what, parts] of Object.entries({
  "goes another way": [{ content: "One" }, { content: " six" }],
  "ends before": [{ content: "One" }, { finish: "stop" }],
})) {
  test(`an answer that ${what} is interrupted`, () => {
    const delivery = new Delivery();
    taken(delivery, answer("a", PARTS).slice(0, 3));
    delivery.restart();
    assert.throws(() => taken(delivery, answer("b", parts)), { name: "EngineError", code: "interrupted" });
  });
}
