import assert from "node:assert/strict";
import { test } from "node:test";
import { readText } from "../../web/worker/engine/files.ts";
import { chatSampling } from "../../web/worker/shared/sampling-defaults.ts";
import { golden } from "./golden.ts";

const CHARACTERS = ["!", "H", "i"];
const TOKENIZER = {
  added_tokens: [],
  normalizer: null,
  post_processor: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
  decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
  model: { type: "BPE", vocab: Object.fromEntries(CHARACTERS.map((c, id) => [c, id])), merges: [] },
};
const TEMPLATE = "{{ messages[0]['content'] }}";
const going = new AbortController().signal;

for (const [number, given] of golden("model_text").cases.entries()) {
  test(`${number}: a bundle's files say what its text is`, async () => {
    const files = new Map<string, unknown>([
      ["mlc-chat-config.json", given.chat],
      ["tokenizer.json", TOKENIZER],
      ["tokenizer_config.json", { chat_template: TEMPLATE }],
    ]);
    if (given.generation) files.set("generation_config.json", given.generation);
    if (given.template_file) files.set("chat_template.jinja", `!${TEMPLATE}`);
    const bundle = {
      lock: { files },
      readJson: async (path: string) => {
        assert.ok(files.has(path), path);
        return files.get(path);
      },
      read: async (path: string) => new TextEncoder().encode(files.get(path) as string),
    };
    const text = await readText(bundle as any, {} as any, going);
    assert.deepEqual(text.defaults, given.defaults);
    assert.deepEqual(text.sampling, given.sampling);
    assert.deepEqual(chatSampling(text.sampling), given.chat_sampling);
    assert.deepEqual([...text.stopTokens].sort((a, b) => a - b), given.stop_tokens);
    assert.equal(text.activeVocabSize, given.active_vocab_size);
    assert.equal(text.vocabSize, given.chat.vocab_size);
    const ids = await text.conversation.tokens([{ role: "user", content: "Hi" }], going);
    const written = Buffer.concat(ids.map((id) => text.vocabulary.bytes(id))).toString();
    assert.equal(written, given.template_file ? "!Hi" : "Hi");
  });
}

for (const { file, field, value } of golden("model_text").refused) {
  test(`${file}: ${field} can't be ${JSON.stringify(value)}`, async () => {
    const files: Record<string, object> = {
      "mlc-chat-config.json": { vocab_size: 100 },
      "generation_config.json": {},
      "tokenizer.json": TOKENIZER,
      "tokenizer_config.json": { chat_template: TEMPLATE },
    };
    const changed = new Map(Object.entries({ ...files, [file]: { ...files[file], [field]: value } }));
    const bundle = { lock: { files: changed }, readJson: async (path: string) => changed.get(path) };
    await assert.rejects(readText(bundle as any, {} as any, going), {
      code: "bundle_invalid",
      message: new RegExp(file.replaceAll(".", "\\.")),
    });
  });
}
