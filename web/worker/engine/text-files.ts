/** A bundle's JSON files about text, checked: the same rules as the Python engine's. */
import type { Sampling } from "../shared/sampling-defaults.ts";
import { isObject, unusable } from "./bundle-errors.ts";
import { show } from "./fields.ts";

export const CHAT_CONFIG = "mlc-chat-config.json";
export const GENERATION = "generation_config.json";
export const TOKENIZER = "tokenizer.json";
export const TOKENIZER_CONFIG = "tokenizer_config.json";

type Json = Readonly<Record<string, unknown>>;
type Rule = readonly [field: string, accepts: (value: unknown) => boolean, expected: string];

/** Contents of the files; without generation_config.json, an empty object in its place. */
export interface TextFiles {
  readonly chat: object;
  readonly generation: object;
  readonly tokenizer: object;
  readonly config: object;
}

const SAMPLING: Readonly<Record<keyof Sampling, Rule>> = {
  temperature: ["temperature", (n) => isNumber(n) && n >= 0, "a number from 0"],
  top_p: ["top_p", (n) => isNumber(n) && n > 0 && n <= 1, "a number above 0, at most 1"],
  top_k: ["top_k", (n) => Number.isInteger(n), "a whole number"],
  min_p: ["min_p", (n) => isNumber(n) && n >= 0 && n <= 1, "a number from 0 to 1"],
  presence_penalty: ["presence_penalty", isNumber, "a number"],
  frequency_penalty: ["frequency_penalty", isNumber, "a number"],
  repetition_penalty: ["repetition_penalty", (n) => isNumber(n) && n > 0, "a number above 0"],
};
const EOS: Rule = ["eos_token_id", isIds, "a token id, or a list of them"];
const MODEL_CONFIG: Rule = ["model_config", isObject, "an object"];

/** Throws EngineError "bundle_invalid" that says all that engines can't use of the files. */
export function checkTextFiles({ chat, generation, tokenizer, config }: TextFiles): void {
  refuse([
    ...chatProblems(chat as Json),
    ...problems(GENERATION, generation as Json, [
      ...Object.values(SAMPLING), EOS, ["do_sample", (value) => typeof value === "boolean", "true or false"],
    ]),
    ...problems(TOKENIZER_CONFIG, config as Json, [
      ["chat_template", isTemplate, "a text, or a list of named ones"],
    ]),
    ...(isObject((tokenizer as Json)["model"]) ? [] : [`${TOKENIZER}: it has no model with a vocabulary`]),
  ]);
}

/** `model_config` of mlc-chat-config.json, empty without one. Throws EngineError "bundle_invalid". */
export function modelConfigOf(chat: Json): Record<string, unknown> {
  refuse(problems(CHAT_CONFIG, chat, [MODEL_CONFIG]));
  return (chat["model_config"] ?? {}) as Record<string, unknown>;
}

function chatProblems(chat: Json): string[] {
  const { vocab_size: size, conv_template: conversation, model_config: model } = chat;
  const isSized = isId(size) && size > 0;
  const most = isSized ? size : Infinity;
  const found = problems(CHAT_CONFIG, chat, [
    ["active_vocab_size", (n) => isId(n) && n > 0 && n <= most, "at most vocab_size"],
    ...Object.values(SAMPLING),
    EOS,
    ["conv_template", isObject, "an object"],
    MODEL_CONFIG,
  ]);
  if (!isSized) found.push(`${CHAT_CONFIG}: vocab_size is ${show(size)}, expected a number of tokens`);
  if (isObject(conversation)) {
    const stops: Rule = ["stop_token_ids", isIds, "a list of token ids"];
    found.push(...problems(CHAT_CONFIG, conversation, [stops]));
  }
  const own = isObject(model) ? (model["vocab_size"] ?? size) : size;
  if (isSized && own !== size) found.push(`${CHAT_CONFIG}: model_config.vocab_size is ${show(own)}, vocab_size ${size}`);
  return found;
}

/** Of fields that are there. */
function problems(path: string, source: Json, rules: readonly Rule[]): string[] {
  return rules
    .map(([field, accepts, expected]) => ({ field, accepts, expected, value: source[field] ?? null }))
    .filter(({ accepts, value }) => value !== null && !accepts(value))
    .map(({ field, expected, value }) => `${path}: ${field} is ${show(value)}, expected ${expected}`);
}

function refuse(problems: readonly string[]): void {
  if (problems.length > 0) throw unusable(problems.join("; "));
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;
}

function isIds(value: unknown): boolean {
  return Array.isArray(value) ? value.every(isId) : isId(value);
}

function isTemplate(value: unknown): boolean {
  if (!Array.isArray(value)) return typeof value === "string";
  return value.every(
    (entry) => isObject(entry) && typeof entry["name"] === "string" && typeof entry["template"] === "string",
  );
}
