// Token ids by the library of the browser's engine: [{tokenizer, config, texts}] in, [[ids of a text]] out.
import { readFileSync } from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";

const cases = JSON.parse(readFileSync(0, "utf8"));
const ids = cases.map(({ tokenizer, config, texts }) => {
  const loaded = new Tokenizer(tokenizer, config);
  return texts.map((text) => Array.from(loaded.encode(text, { add_special_tokens: false }).ids));
});
process.stdout.write(JSON.stringify(ids));
