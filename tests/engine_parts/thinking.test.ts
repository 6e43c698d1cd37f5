import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerWriter, divideThinking } from "../../web/worker/ui/thinking.ts";
import type { Message } from "../../web/worker/ui/types.ts";

const message = (content = ""): Message => ({ id: "a", role: "assistant", content, createdAt: 0 });

const CASES: Record<string, { text: string; thinking: string; answer: string }> = {
  "no thought": { text: "Hello <think>no</think>.", thinking: "", answer: "Hello <think>no</think>." },
  thought: { text: "<think>\nWell, 1 < 2.\n</think>\n\nYes.", thinking: "Well, 1 < 2.", answer: "Yes." },
  "longer tag": { text: " \n<thinking>a </think> b</thinking>c", thinking: "a </think> b", answer: "c" },
  "no word of thought": { text: "<think>\n\n</think>\n\nYes.", thinking: "", answer: "Yes." },
  "no word of answer": { text: "<think>Hm</think>", thinking: "Hm", answer: "" },
  "no end": { text: "<think>Hm </thin", thinking: "Hm </thin", answer: "" },
  "something like a tag": { text: "<thing>x", thinking: "", answer: "<thing>x" },
  "half a tag": { text: "<thi", thinking: "", answer: "<thi" },
  "twice": { text: "<think>a</think>b<think>c</think>", thinking: "a", answer: "b<think>c</think>" },
  "tags in the thought": { text: "<think>a <b>b</b> </ c</think>d", thinking: "a <b>b</b> </ c", answer: "d" },
};

for (const [name, { text, thinking, answer }] of Object.entries(CASES)) {
  test(`${name}: character by character it comes to the whole`, () => {
    const written = message();
    const writer = new AnswerWriter(written);
    let grown = "";
    for (const [index, character] of [...text].entries()) {
      grown += writer.add({ content: character });
      assert.equal(grown, written.content);
      assert.ok(answer.startsWith(written.content), `${written.content} at ${index}`);
      assert.ok(thinking.startsWith(written.thinking?.text ?? ""), `${written.thinking?.text} at ${index}`);
    }
    grown += writer.end();
    assert.equal(grown, answer);
    assert.equal(written.content, answer);
    assert.equal(written.thinking?.text ?? "", thinking);
    assert.deepEqual(divideThinking(text, true), { thinking, answer });
  });
}

test("what comes beside the answer is its thought", () => {
  const written = message();
  const writer = new AnswerWriter(written);
  assert.equal(writer.add({ reasoning_content: "Well" }), "");
  assert.equal(writer.add({ reasoning_content: ", yes." }), "");
  assert.equal(writer.add({ content: "Yes" }), "Yes");
  assert.equal(writer.add({ content: "." }), ".");
  assert.equal(writer.end(), "");
  assert.deepEqual([written.content, written.thinking?.text], ["Yes.", "Well, yes."]);
});

test("thinking takes from its first word to the answer's", async () => {
  const written = message();
  const writer = new AnswerWriter(written);
  const pause = () => new Promise((resolve) => setTimeout(resolve, 30));
  await pause();
  writer.add({ content: "<think>a" });
  assert.ok((written.thinking?.seconds ?? 1) < 0.02);
  await pause();
  writer.add({ content: "</think>b" });
  const { seconds } = written.thinking ?? { seconds: 0 };
  assert.ok(seconds >= 0.029, String(seconds));
  await pause();
  writer.add({ content: "c" });
  writer.end();
  assert.equal(written.thinking?.seconds, seconds);
});

test("an answer that goes on begins with no thought", () => {
  const written = message("It is ");
  const writer = new AnswerWriter(written);
  assert.equal(writer.add({ content: "<think>" }), "<think>");
  assert.equal(writer.add({ content: "x" }), "x");
  assert.deepEqual([written.content, written.thinking], ["It is <think>x", undefined]);
});
