import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation } from "../../../web/worker/engine/conversation.ts";
import { Detokenizer } from "../../../web/worker/engine/detokenizer.ts";
import { Vocabulary } from "../../../web/worker/engine/vocabulary.ts";
import { golden } from "./golden.ts";

const { tokenizers, cases } = golden("prompts");

for (const [number, { tokenizer, messages, ids, text, text_ids, decoded }] of cases.entries()) {
  const { tokenizer: json, config } = tokenizers[tokenizer];
  const conversation = new Conversation(json, config);

  test(`${tokenizer} ${number}: messages become transformers' token ids`, () => {
    assert.deepEqual(conversation.tokens(messages), ids);
    assert.deepEqual(conversation.encode(text), text_ids);
  });

  test(`${tokenizer} ${number}: tokens become the text that tokenizers decodes`, () => {
    const detokenizer = new Detokenizer(new Vocabulary(json), []);
    const pieces = text_ids.map((id: number) => detokenizer.push(id).text);
    assert.equal(pieces.join("") + detokenizer.finish().text, decoded);
  });
}

const control = golden("control_tokens");

for (const [number, { tokenizer, messages, ids, text, text_ids }] of control.cases.entries()) {
  const { tokenizer: json, config } = control.tokenizers[tokenizer];
  const conversation = new Conversation(json, config);

  test(`${tokenizer} ${number}: what people write is no control token`, () => {
    assert.deepEqual(conversation.tokens(messages), ids);
  });

  test(`${tokenizer} ${number}: plain prompts are taken as they are`, () => {
    assert.deepEqual(conversation.encode(text), text_ids);
  });
}

const { tokenizer: json, config } = tokenizers.chatml;
const chat = new Conversation(json, config);
const turns = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "First question" },
  { role: "assistant", content: "First answer" },
  { role: "user", content: "Second question" },
] as const;
const whole = chat.tokens(turns).length;
const short = chat.tokens([turns[0], turns[3]]);

test("a prompt may fill the context up to one token", () => {
  const limits = { window: whole + 1, policy: "error", reserve: 9 } as const;
  assert.equal(chat.fit(turns, limits).length, whole);
});

test("a longer prompt is refused with both numbers", () => {
  assert.throws(() => chat.fit(turns, { window: whole, policy: "error", reserve: 1 }), {
    code: "context_length_exceeded",
    message: new RegExp(`${whole} tokens.* at most ${whole - 1}\\.`),
  });
});

test("truncate-oldest drops old turns and keeps the system prompt", () => {
  const limits = { window: whole, policy: "truncate-oldest", reserve: 4 } as const;
  assert.deepEqual(chat.fit(turns, limits), short);
});

test("truncate-oldest refuses a last message that doesn't fit", () => {
  const limits = { window: short.length, policy: "truncate-oldest", reserve: 1 } as const;
  assert.throws(() => chat.fit(turns, limits), { code: "context_length_exceeded" });
});

test("a template's complaint becomes an invalid request", () => {
  const { tokenizer, config: alternating } = tokenizers.brackets;
  const strict = new Conversation(tokenizer, alternating);
  const twice = [turns[1], turns[3]];
  assert.throws(() => strict.tokens(twice), {
    code: "invalid_request",
    param: "messages",
    message: /roles must alternate/,
  });
});
