import assert from "node:assert/strict";
import { test } from "node:test";
import { Detokenizer } from "../../web/worker/engine/detokenizer.ts";
import { Vocabulary } from "../../web/worker/engine/vocabulary.ts";
import { golden } from "./golden.ts";

for (const [number, { tokens, stops, strips_first_space, goes_on, pieces }] of golden("text").cases.entries()) {
  test(`text ${number} with stops ${JSON.stringify(stops)}`, () => {
    const detokenizer = new Detokenizer(
      {
        bytes: (id: number) => Uint8Array.from(tokens[id]),
        stripsFirstSpace: Boolean(strips_first_space),
      },
      stops,
      { goesOn: Boolean(goes_on) },
    );
    const found = [];
    for (const id of tokens.keys()) {
      found.push(detokenizer.push(id));
      if (found.at(-1)?.stopped) break;
    }
    if (!found.at(-1)?.stopped) found.push(detokenizer.finish());
    assert.deepEqual(found, pieces);
  });
}

test("special tokens have no text", () => {
  const tokenizer = {
    added_tokens: [
      { id: 1, content: "<|end|>", special: true },
      { id: 2, content: "<think>", special: false },
    ],
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: { Ġhi: 0 } },
  };
  const vocabulary = new Vocabulary(tokenizer);
  assert.deepEqual([...vocabulary.bytes(0)], [32, 104, 105]);
  assert.equal(vocabulary.bytes(1).length, 0);
  assert.equal(vocabulary.text(1), "<|end|>");
  assert.equal(new TextDecoder().decode(vocabulary.bytes(2)), "<think>");
  assert.equal(vocabulary.bytes(99).length, 0);
  assert.equal(vocabulary.size, 3);
});

test("a tokenizer of another kind is refused", () => {
  const model = { type: "WordPiece", vocab: {} };
  assert.throws(() => new Vocabulary({ decoder: { type: "WordPiece" }, model }), {
    code: "bundle_invalid",
  });
});
