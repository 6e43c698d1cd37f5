/** Prompts and options that pages give, checked as the specification says. */
import type { ChatMessage } from "../shared/openai.ts";
import { notSupported } from "./errors.ts";
import type {
  LanguageModelCreateCoreOptions,
  LanguageModelPrompt,
  LanguageModelPromptOptions,
  LanguageModelSamplingMode,
} from "./types.ts";

/** Fields of a request; "balanced" as the model's files name them. */
export const SAMPLING: Record<LanguageModelSamplingMode, { temperature?: number; top_p?: number }> = {
  "most-predictable": { temperature: 0 },
  predictable: { temperature: 0.3, top_p: 0.9 },
  balanced: {},
  creative: { temperature: 1, top_p: 0.95 },
  "most-creative": { temperature: 1.3, top_p: 0.95 },
};
const ROLES: readonly unknown[] = ["system", "user", "assistant"];
const TYPES: readonly unknown[] = ["text", "image", "audio", "tool-call", "tool-response"];

type Turn = ChatMessage & { role: "system" | "user" | "assistant"; content: string };

/**
 * The messages of a prompt, with their texts; `isFirst` if nothing came before it in the session.
 *
 * Throws TypeError, and DOMException: SyntaxError, NotSupportedError.
 */
export function readPrompt(input: LanguageModelPrompt, isFirst: boolean): Turn[] {
  if (typeof input === "string" || !isIterable(input)) return [{ role: "user", content: String(input) }];
  const given = [...(input as unknown[])];
  if (given.length === 0) return [{ role: "user", content: "" }];
  return given.map((message, index) => {
    const { role, content, prefix } = dictionary(message, "a message");
    if (!ROLES.includes(role)) throw new TypeError(`A message's role can't be ${String(role)}.`);
    if (prefix) refusePrefix(role, index === given.length - 1);
    if (role === "system" && !(isFirst && index === 0)) {
      throw new TypeError("A system prompt must be a session's first message.");
    }
    return { role: role as Turn["role"], content: textOf(content) };
  });
}

/** Whether nothing but text is expected. Throws TypeError, and RangeError for a language that is none. */
export function readCoreOptions(options: LanguageModelCreateCoreOptions): {
  isSupported: boolean;
  samplingMode: LanguageModelSamplingMode;
} {
  const given = dictionary(options, "the options");
  const samplingMode = given["samplingMode"] ?? "balanced";
  if (!Object.hasOwn(SAMPLING, String(samplingMode))) {
    throw new TypeError(`samplingMode can't be ${String(samplingMode)}.`);
  }
  const expected = ["expectedInputs", "expectedOutputs"].flatMap((name) => list(given[name], name));
  const types = expected.map((entry) => {
    const { type, languages } = dictionary(entry, "what is expected");
    if (!TYPES.includes(type)) throw new TypeError(`What is expected can't be ${String(type)}.`);
    Intl.getCanonicalLocales(list(languages, "languages") as string[]);
    return type;
  });
  const isSupported = types.every((type) => type === "text") && list(given["tools"], "tools").length === 0;
  return { isSupported, samplingMode: samplingMode as LanguageModelSamplingMode };
}

/** Throws TypeError, and DOMException "NotSupportedError". */
export function checkPromptOptions(options: LanguageModelPromptOptions): void {
  const { responseConstraint: constraint, omitResponseConstraintInput: omit } = dictionary(options, "the options");
  if (omit && constraint == null) throw new TypeError("omitResponseConstraintInput needs a responseConstraint.");
  if (constraint != null) throw notSupported("Answers can't be constrained yet.");
}

/** Templates want turns to alternate: neighbours of one role become one. */
export function joined(messages: readonly ChatMessage[]): ChatMessage[] {
  const turns: ChatMessage[] = [];
  for (const message of messages) {
    const last = turns.at(-1);
    if (last?.role === message.role) last.content = `${last.content as string}\n\n${message.content as string}`;
    else turns.push({ ...message });
  }
  return turns;
}

function refusePrefix(role: unknown, isLast: boolean): never {
  if (role !== "assistant" || !isLast) {
    throw new DOMException("Only a last message of the assistant can be a prefix.", "SyntaxError");
  }
  throw notSupported("An answer can't be begun for the model yet.");
}

function textOf(content: unknown): string {
  if (typeof content === "string" || !isIterable(content)) return String(content);
  const texts = [...(content as unknown[])].map((part) => {
    const { type, value } = dictionary(part, "a part of a message");
    if (!TYPES.includes(type)) throw new TypeError(`A part's type can't be ${String(type)}.`);
    if (type !== "text") throw notSupported(`This model reads text, and no ${String(type)}.`);
    if (typeof value !== "string") throw new TypeError("The value of a text part must be a string.");
    return value;
  });
  return texts.join("");
}

function dictionary(value: unknown, what: string): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" && typeof value !== "function") throw new TypeError(`${what} must be an object.`);
  return value as Record<string, unknown>;
}

function list(value: unknown, name: string): unknown[] {
  if (value === undefined) return [];
  if (!isIterable(value) || typeof value === "string") throw new TypeError(`${name} must be a list.`);
  return [...value];
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof (value as Iterable<unknown> | null)?.[Symbol.iterator] === "function";
}
