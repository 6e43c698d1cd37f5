/** From an OpenAI request, which is untrusted, to the one form that the engine works with. */
import type { ChatCompletionParams } from "../shared/openai.ts";
import {
  flag,
  invalid,
  number,
  object,
  refuseUnknown,
  show,
  text,
  type Params,
} from "./fields.ts";

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface SamplingSettings {
  readonly temperature: number;
  readonly topP: number;
  /** Null for no such limit. */
  readonly topK: number | null;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  /** How many alternatives to report for each token; null for no log probabilities at all. */
  readonly logprobs: number | null;
}

export interface CompletionRequest {
  readonly messages: readonly ChatMessage[];
  /** The answer so far, which goes on. */
  readonly begun: string;
  /** Null: until the context is full. */
  readonly maxTokens: number | null;
  readonly choices: number;
  readonly stop: readonly string[];
  /** Null: an arbitrary one. */
  readonly seed: number | null;
  readonly sampling: SamplingSettings;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** End-of-text tokens don't end the answer. */
  readonly ignoreEos: boolean;
  /** The same bits whatever was computed before; null: as the engine is set. */
  readonly deterministic: boolean | null;
}

/** For what a request leaves open. */
export type SamplingDefaults = Omit<SamplingSettings, "logitBias" | "logprobs">;

export interface ModelFacts {
  readonly id: string;
  readonly vocabSize: number;
  readonly defaults: SamplingDefaults;
}

const MAX_STOPS = 4;
const MAX_STOP_CHARACTERS = 1000;
const MAX_CHOICES = 16;
const MAX_TOP_LOGPROBS = 20;
const ROLES: Readonly<Record<string, ChatMessage["role"]>> = {
  system: "system",
  developer: "system",
  user: "user",
  assistant: "assistant",
};
const KNOWN = new Set([
  "messages", "model", "max_tokens", "max_completion_tokens", "n", "stop", "temperature", "top_p",
  "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
  "logit_bias", "logprobs", "top_logprobs", "stream", "stream_options", "ignore_eos",
  "deterministic", "continue_final_message",
  // What OpenAI's clients say of themselves, their users, bills and caches: no answer depends on it.
  "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
  "prompt_cache_options", "prompt_cache_retention", "parallel_tool_calls",
]);
/** Fields that aren't supported, with values that ask for nothing. */
const NEUTRAL = {
  tools: [[]],
  tool_choice: ["none", "auto"],
  functions: [[]],
  function_call: ["none", "auto"],
  response_format: [{ type: "text" }],
  modalities: [["text"]],
  verbosity: ["medium"],
  suffix: [""],
  best_of: [1],
};
const MESSAGE = new Set(["role", "content", "name"]);
/** What OpenAI's client writes into an answer's message, which comes back with the next question. */
const NEUTRAL_IN_MESSAGE = { annotations: [[]], tool_calls: [[]] };
const TEXT_PART = new Set(["type", "text", "prompt_cache_breakpoint"]);
const STREAM_OPTIONS = new Set(["include_usage", "include_obfuscation"]);

/** Throws EngineError "invalid_request" with the name of the parameter in `param`. */
export function parseRequest(params: ChatCompletionParams, model: ModelFacts): CompletionRequest {
  const given: Params = object(params, "body");
  refuseUnknown(given, KNOWN, NEUTRAL);
  if (given["model"] != null && given["model"] !== model.id) {
    throw invalid("model", `${show(given["model"])} is not loaded, ${model.id} is`, "Load it first.");
  }
  const stream = flag(given, "stream") ?? false;
  return {
    ...readConversation(given),
    maxTokens: readMaxTokens(given),
    choices: number(given, "n", { low: 1, high: MAX_CHOICES, whole: true }) ?? 1,
    stop: readStop(given["stop"]),
    seed: number(given, "seed", { low: -(2 ** 53) + 1, high: 2 ** 53 - 1, whole: true }),
    sampling: readSampling(given, model),
    stream,
    includeUsage: readIncludeUsage(given, stream),
    ignoreEos: flag(given, "ignore_eos") ?? false,
    deterministic: flag(given, "deterministic"),
  };
}

function readSampling(given: Params, { defaults, vocabSize }: ModelFacts): SamplingSettings {
  const penalty = { low: -2, high: 2 };
  return {
    temperature: number(given, "temperature", { low: 0, high: 2 }) ?? defaults.temperature,
    topP: number(given, "top_p", { low: 0, high: 1 }) ?? defaults.topP,
    topK: readTopK(given, defaults.topK),
    minP: number(given, "min_p", { low: 0, high: 1 }) ?? defaults.minP,
    presencePenalty: number(given, "presence_penalty", penalty) ?? defaults.presencePenalty,
    frequencyPenalty: number(given, "frequency_penalty", penalty) ?? defaults.frequencyPenalty,
    repetitionPenalty:
      number(given, "repetition_penalty", { low: 0.01, high: 10 }) ?? defaults.repetitionPenalty,
    logitBias: readBias(given["logit_bias"], vocabSize),
    logprobs: readLogprobs(given),
  };
}

/** 0 and -1 are common ways to say that there is no limit. */
function readTopK(given: Params, ofModel: number | null): number | null {
  const count = number(given, "top_k", { low: -1, high: Number.MAX_SAFE_INTEGER, whole: true });
  if (count === null) return ofModel;
  return count > 0 ? count : null;
}

/** The messages, and what there is of the answer to them. */
function readConversation(given: Params): Pick<CompletionRequest, "messages" | "begun"> {
  const messages = readMessages(given["messages"]);
  if (!flag(given, "continue_final_message")) return { messages, begun: "" };
  const last = messages.pop();
  if (messages.length === 0 || last?.role !== "assistant") {
    const wanted = "continue_final_message needs an assistant's message at the end, and one before it";
    throw invalid("continue_final_message", wanted, "Add the answer so far as the last message.");
  }
  return { messages, begun: last.content };
}

/** Throws EngineError "invalid_request". */
export function readMessages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw invalid("messages", "messages must be a list with at least one message", "Add a message.");
  }
  return value.map((entry, index) => readMessage(entry, `messages[${index}]`));
}

function readMessage(entry: unknown, at: string): ChatMessage {
  const message = object(entry, at);
  const { role: name } = message;
  const role = typeof name === "string" && Object.hasOwn(ROLES, name) ? ROLES[name] : undefined;
  if (!role) {
    const roles = Object.keys(ROLES).join(", ");
    throw invalid(`${at}.role`, `${at}.role is ${show(name)}`, `Use one of ${roles}.`);
  }
  refuseUnknown(message, MESSAGE, NEUTRAL_IN_MESSAGE, `${at}.`);
  if (message["name"] != null) text(message["name"], `${at}.name`);
  return { role, content: readContent(message["content"], `${at}.content`) };
}

function readContent(value: unknown, at: string): string {
  if (value === undefined || value === null) {
    throw invalid(at, `${at} is missing`, "Give a string: tool calls aren't supported.");
  }
  if (!Array.isArray(value)) return text(value, at);
  const texts = value.map((entry, index) => {
    const partAt = `${at}[${index}]`;
    const part = object(entry, partAt);
    if (part["type"] !== "text" || typeof part["text"] !== "string") {
      throw invalid(partAt, `${partAt} is not a text part`, "Give text parts only.");
    }
    refuseUnknown(part, TEXT_PART, {}, `${partAt}.`);
    return text(part["text"], `${partAt}.text`);
  });
  return texts.join("");
}

function readMaxTokens(given: Params): number | null {
  const bounds = { low: 1, high: 2 ** 31 - 1, whole: true };
  const older = number(given, "max_tokens", bounds);
  const newer = number(given, "max_completion_tokens", bounds);
  if (older !== null && newer !== null && older !== newer) {
    const both = "max_tokens and max_completion_tokens differ";
    throw invalid("max_tokens", both, "Give max_completion_tokens alone.");
  }
  return newer ?? older;
}

function readStop(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  const stops: unknown[] = Array.isArray(value) ? value : [value];
  const good = stops.every((stop) => typeof stop === "string" && stop !== "");
  if (!good || stops.length > MAX_STOPS) {
    const wanted = `stop must be a non-empty string or up to ${MAX_STOPS} of them`;
    throw invalid("stop", wanted, "Give fewer or other strings.");
  }
  const texts = stops.map((stop) => text(stop, "stop"));
  if (texts.some((stop) => [...stop].length > MAX_STOP_CHARACTERS)) {
    const most = `A stop string may have ${MAX_STOP_CHARACTERS} characters`;
    throw invalid("stop", most, "Give the beginning of yours.");
  }
  return texts;
}

function readBias(value: unknown, vocabSize: number): Map<number, number> {
  const biases = new Map<number, number>();
  if (value === undefined || value === null) return biases;
  for (const [key, bias] of Object.entries(object(value, "logit_bias"))) {
    const id = Number(key);
    if (!/^\d+$/.test(key) || id >= vocabSize) {
      const wanted = `Token ids of this model are 0 to ${vocabSize - 1}.`;
      throw invalid("logit_bias", `logit_bias has the token ${show(key)}`, wanted);
    }
    if (typeof bias !== "number" || !(bias >= -100 && bias <= 100)) {
      throw invalid("logit_bias", `logit_bias of ${key} is ${show(bias)}`, "Use -100 to 100.");
    }
    biases.set(id, bias);
  }
  return biases;
}

function readLogprobs(given: Params): number | null {
  const count = number(given, "top_logprobs", { low: 0, high: MAX_TOP_LOGPROBS, whole: true });
  if (flag(given, "logprobs")) return count ?? 0;
  if (!count) return null;
  throw invalid("top_logprobs", "top_logprobs needs logprobs", "Set logprobs to true.");
}

function readIncludeUsage(given: Params, stream: boolean): boolean {
  if (given["stream_options"] === undefined || given["stream_options"] === null) return false;
  const options = object(given["stream_options"], "stream_options");
  refuseUnknown(options, STREAM_OPTIONS, {}, "stream_options.");
  if (!stream) {
    throw invalid("stream_options", "stream_options needs stream", "Set stream to true.");
  }
  return flag(options, "include_usage") ?? false;
}
