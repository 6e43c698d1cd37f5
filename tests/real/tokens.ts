/** The prompts' token ids in the browser's engine: arguments are a bundle's folder and the vectors. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Conversation } from "../../web/worker/engine/conversation.ts";

const [bundle = "", vectors = ""] = process.argv.slice(2);
const read = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8"));
const conversation = new Conversation(
  read(bundle, "tokenizer.json"),
  read(bundle, "tokenizer_config.json"),
);
const { signal } = new AbortController();
const ids: number[][] = [];
for (const { messages } of read(vectors)) ids.push(await conversation.tokens(messages, signal));
console.log(JSON.stringify(ids));
