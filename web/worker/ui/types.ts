/** What the page keeps and shows. */
import type { ContextPolicy } from "../shared/protocol.ts";

/** Sampling and system prompt of one conversation; null: as the model's files say, else as chats do. */
export interface ChatSettings {
  systemPrompt: string;
  temperature: number | null;
  topP: number | null;
  minP: number | null;
  maxTokens: number | null;
  seed: number | null;
  contextPolicy: ContextPolicy;
}

export interface Conversation {
  id: string;
  title: string;
  /** True once a person chose the title; until then it follows the first message. */
  named: boolean;
  pinned: boolean;
  /** Milliseconds since the epoch. */
  createdAt: number;
  updatedAt: number;
  settings: ChatSettings;
  /** The last message of the branch that was shown last; null for the newest. */
  leafId: string | null;
}

/** An error as people see it: what happened and what to do. */
export interface Problem {
  code: string;
  message: string;
  remedy: string;
}

/** Counts in tokens, times in seconds. */
export interface AnswerStats {
  promptTokens: number;
  cachedTokens: number;
  answerTokens: number;
  firstTokenSeconds: number | null;
  prefillTokensPerSecond: number | null;
  decodeTokensPerSecond: number | null;
  totalSeconds: number | null;
}

export type AnswerState = "open" | "stop" | "length" | "abort" | "error" | "tools";

/** As in OpenAI's answers; `result` is what the page found, once it did. */
export interface ToolUse {
  id: string;
  name: string;
  /** JSON. */
  arguments: string;
  result?: string;
}

/** What a model thought before it answered, and for how long; no part of the conversation that it is told. */
export interface Thinking {
  text: string;
  seconds: number;
}

export interface Message {
  id: string;
  role: "user" | "assistant";
  content: string;
  createdAt: number;
  /** How the answer ended; "open" while it is written, or if the page was closed meanwhile. */
  state?: AnswerState;
  model?: string;
  stats?: AnswerStats;
  problem?: Problem;
  thinking?: Thinking;
  /** What the answer asked for instead of an end. */
  tools?: ToolUse[];
}

/** A model that the host offers, from bundles/index.json. */
export interface Bundle {
  /** Tells models of one id apart, which run in different places. */
  key: string;
  id: string;
  /** Whose device computes: this browser's, or that of the daemon which serves the page. */
  place: "browser" | "daemon";
  /** In a browser: absolute, with a slash at its end. */
  url: string;
  bytes: number;
  modelType: string;
  quantization: string;
  contextWindowSize: number;
}
