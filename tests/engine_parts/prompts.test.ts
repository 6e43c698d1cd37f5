import assert from "node:assert/strict";
import { test } from "node:test";
import { Template } from "@huggingface/jinja";
import { ControlTokens } from "../../web/worker/engine/control-tokens.ts";
import { Conversation } from "../../web/worker/engine/conversation.ts";
import { Detokenizer } from "../../web/worker/engine/detokenizer.ts";
import { Vocabulary } from "../../web/worker/engine/vocabulary.ts";
import type { ChatMessage } from "../../web/worker/engine/request.ts";
import { golden } from "./golden.ts";

const { signal: going } = new AbortController();

const { tokenizers, cases, continued } = golden("prompts");

for (const [number, { tokenizer, messages, ids, text, text_ids, decoded }] of cases.entries()) {
  const { tokenizer: json, config } = tokenizers[tokenizer];
  const conversation = new Conversation(json, config);

  test(`${tokenizer} ${number}: messages become transformers' token ids`, async () => {
    assert.deepEqual(await conversation.tokens(messages, going), ids);
    assert.deepEqual(conversation.encode(text), text_ids);
  });

  test(`${tokenizer} ${number}: tokens become the text that tokenizers decodes`, () => {
    const detokenizer = new Detokenizer(new Vocabulary(json), []);
    const pieces = text_ids.map((id: number) => detokenizer.push(id).text);
    assert.equal(pieces.join("") + detokenizer.finish().text, decoded);
  });
}

for (const { tokenizer, messages, begun, ids } of continued) {
  test(`${tokenizer}: an answer that has begun ${begun} goes on there`, async () => {
    const { tokenizer: json, config } = tokenizers[tokenizer];
    assert.deepEqual(await new Conversation(json, config).tokens(messages, going, begun), ids);
  });
}

const control = golden("control_tokens");

for (const [number, { tokenizer, messages, ids, text, text_ids }] of control.cases.entries()) {
  const { tokenizer: json, config } = control.tokenizers[tokenizer];
  const conversation = new Conversation(json, config);

  test(`${tokenizer} ${number}: what people write is no control token`, async () => {
    assert.deepEqual(await conversation.tokens(messages, going), ids);
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
const whole = (await chat.tokens(turns, going)).length;

test("a prompt may fill the context up to one token", async () => {
  const limits = { window: whole + 1, policy: "error", reserve: 9 } as const;
  assert.equal((await chat.fit(turns, limits, going)).length, whole);
});

test("a longer prompt is refused with both numbers", async () => {
  const limits = { window: whole, policy: "error", reserve: 1 } as const;
  await assert.rejects(chat.fit(turns, limits, going), {
    code: "context_length_exceeded",
    message: new RegExp(`${whole} tokens.* at most ${whole - 1}\\.`),
  });
});

/** As tests/golden/cuts.py makes them. */
function chatOf({ exchanges, system, seed, first }: any): ChatMessage[] {
  const roles: ChatMessage["role"][] = Array(system).fill("system");
  for (let n = 0; n < exchanges; n++) roles.push("user", "assistant");
  if (exchanges > 0) roles.pop();
  if (first === "assistant") roles.splice(system, 0, "assistant");
  return roles.map((role, n) => ({ role, content: phrase.repeat(1 + ((n * n * seed) % 13)) }));
}

const { templates, phrase, cases: cutCases } = golden("cuts");

for (const { template, asked, window, reserve, dropped, tokens } of cutCases) {
  test(`cuts ${template} ${JSON.stringify(asked)} to ${window} less ${reserve}`, async () => {
    const conversation = new Conversation(json, { ...config, chat_template: templates[template] });
    const messages = chatOf(asked);
    const fitting = conversation.fit(messages, { window, policy: "truncate-oldest", reserve }, going);
    if (dropped === null) {
      await assert.rejects(fitting, { code: "context_length_exceeded" });
      return;
    }
    const kept = [...messages.slice(0, asked.system), ...messages.slice(asked.system + dropped)];
    const ids = await fitting;
    assert.equal(ids.length, tokens);
    assert.deepEqual(ids, await conversation.tokens(kept, going));
  });
}

test("what an answer has begun with counts when old turns are dropped", async () => {
  const begun = "It goes on and on. ".repeat(4);
  const last = [turns[0], turns[3]];
  const { length: window } = await chat.tokens(turns, going, begun);
  const limits = { window, policy: "truncate-oldest", reserve: 4 } as const;
  const kept = await chat.tokens(last, going, begun);
  assert.deepEqual(await chat.fit(turns, limits, going, begun), kept);
  await assert.rejects(chat.fit(turns, { ...limits, policy: "error" }, going, begun), {
    code: "context_length_exceeded",
  });
});

test("a very long conversation lets an abort in, and is cut in one pass", async () => {
  const messages = Array.from({ length: 1601 }, (_, n) => ({
    role: n % 2 ? ("assistant" as const) : ("user" as const),
    content: "The quick brown fox. ".repeat(10),
  }));
  const limits = { window: 4096, policy: "truncate-oldest", reserve: 256 } as const;
  let ticks = 0;
  const ticking = setInterval(() => (ticks += 1));
  const start = performance.now();
  const ids = await chat.fit(messages, limits, going);
  const ms = performance.now() - start;
  clearInterval(ticking);
  assert.ok(ids.length > 2048 && ids.length <= 4096 - 256);
  // Rendering again for each exchange that is dropped took minutes.
  assert.ok(ms < 45_000, `${ms} ms`);
  assert.ok(ticks >= Math.min(4, ms / 200), `${ticks} ticks in ${ms} ms`);

  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  await assert.rejects(chat.fit(messages, limits, controller.signal), { name: "AbortError" });
});

for (const name of ["chatml", "headers", "brackets"]) {
  test(`${name}: long texts are encoded in pieces as they are in whole`, async () => {
    const { tokenizer, config } = tokenizers[name];
    const conversation = new Conversation(tokenizer, config);
    const messages = Array.from({ length: 25 }, (_, n) => ({
      role: n % 2 ? ("assistant" as const) : ("user" as const),
      content: ` Café, naïve ${n}  dogs.\n`.repeat(100 + 40 * n),
    }));
    const bos_token = config.bos_token?.content ?? config.bos_token;
    const context = { messages, add_generation_prompt: true, bos_token, eos_token: config.eos_token };
    const text = new Template(config.chat_template).render(context);
    assert.deepEqual(await conversation.tokens(messages, going), conversation.encode(text));
  });
}

/** One message that has borders of every kind: code, prose of several scripts, and base64. */
const MIXED = [
  "def add(a, b):\n    return a+b  # sum\n\n",
  "Café, naïve — the quick brown fox's 12345 dogs don't. ",
  "日本語のテキスト，中文。и русский текст! 👩‍👩‍👧🙂 e\u0301\t\tx \u00a0y",
  "dGhlIHF1aWNrIGJyb3duIGZveA0123456789abcdef+/==",
  "  ... --- 3.14159;;foo_bar(baz)[0]",
].join("");

for (const [name, files] of Object.entries<any>({ ...control.tokenizers, ...tokenizers })) {
  test(`${name}: one long text is encoded in pieces as it is in whole`, async () => {
    const conversation = new Conversation(files.tokenizer, files.config);
    // Pieces end elsewhere in each.
    for (const lead of ["", "abcdef gh"]) {
      const content = (lead + MIXED).repeat(160);
      const messages = [{ role: "user" as const, content }];
      const { bos_token: bos, eos_token } = files.config;
      const context = { messages, add_generation_prompt: true, bos_token: bos?.content ?? bos, eos_token };
      const text = new Template(files.config.chat_template).render(context);
      assert.deepEqual(await conversation.tokens(messages, going), conversation.encode(text));
    }
  });
}

for (const [kind, content] of [
  ["prose", "The quick brown fox. ".repeat(5_000)],
  ["base64", "dGhlIHF1aWNr1IGJyb3duIGZveA".repeat(4_000)],
  ["a script without spaces", "日本語のテキスト，".repeat(11_000)],
] as const) {
  test(`${kind}: no long text is encoded in one go`, () => {
    const parts = [...new ControlTokens(json, config, "").encodeParts(content, new Map())];
    assert.ok(parts.length > 5 && parts.length < 9, `${parts.length} parts`);
  });
}

test("one very long message lets others' work in while it is counted, too", async () => {
  const messages = [{ role: "user" as const, content: "The quick brown fox. ".repeat(20_000) }];
  const limits = { window: 4096, policy: "truncate-oldest", reserve: 256 } as const;
  let ticks = 0;
  const ticking = setInterval(() => (ticks += 1));
  const start = performance.now();
  await assert.rejects(chat.fit(messages, limits, going), { code: "context_length_exceeded" });
  const ms = performance.now() - start;
  clearInterval(ticking);
  assert.ok(ticks >= Math.min(6, ms / 200), `${ticks} ticks in ${ms} ms`);
});

test("a template's complaint becomes an invalid request", async () => {
  const { tokenizer, config: alternating } = tokenizers.brackets;
  const strict = new Conversation(tokenizer, alternating);
  const twice = [turns[1], turns[3]];
  await assert.rejects(strict.tokens(twice, going), {
    code: "invalid_request",
    param: "messages",
    message: /roles must alternate/,
  });
});
