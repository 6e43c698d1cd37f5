/** OpenAI's chat completion API as far as this engine speaks it. Types only. */

export type FinishReason = "stop" | "length" | "abort";

export interface TextPart {
  type: "text";
  text: string;
}

export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant";
  content: string | TextPart[];
  name?: string;
  /** As OpenAI's client writes them into an answer, which comes back with the next question. */
  refusal?: null;
  annotations?: [];
  audio?: null;
  tool_calls?: [] | null;
  function_call?: null;
}

export interface ChatCompletionParams {
  messages: ChatMessage[];
  /** One of those that are loaded; needed where these are several. */
  model?: string;
  /** At most one of the two; without either an answer may fill the context. */
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  n?: number | null;
  /** A string or up to four. */
  stop?: string | string[] | null;
  /** 0 (greedy) to 2. */
  temperature?: number | null;
  top_p?: number | null;
  /** Draws from so many of the most probable tokens; 0, -1 and null for all. Not part of OpenAI's API. */
  top_k?: number | null;
  /** 0 to 1: draws from tokens with so large a part of the likeliest one's probability. Not part of OpenAI's API. */
  min_p?: number | null;
  /** Integer; the same seed gives the same text on every device. */
  seed?: number | null;
  /** -2 to 2. */
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  /** Above 0; 1 changes nothing. Not part of OpenAI's API. */
  repetition_penalty?: number | null;
  /** Token id to a number from -100 to 100. */
  logit_bias?: Record<string, number> | null;
  logprobs?: boolean | null;
  /** 0 to 20; needs `logprobs`. */
  top_logprobs?: number | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean; include_obfuscation?: boolean } | null;
  /** What OpenAI's clients say of themselves, their users, bills and caches; no answer depends on it. */
  user?: string;
  metadata?: Record<string, string> | null;
  store?: boolean | null;
  service_tier?: string | null;
  safety_identifier?: string;
  prompt_cache_key?: string;
  prompt_cache_options?: object;
  prompt_cache_retention?: string | null;
  parallel_tool_calls?: boolean;
  /** Goes on after the model's end of text, for measurements. Not part of OpenAI's API. */
  ignore_eos?: boolean | null;
  /** The same bits whatever was computed before. Not part of OpenAI's API. */
  deterministic?: boolean | null;
  /**
   * The last message is the beginning of the answer, which goes on where it ends; chunks have what is new. Not part of
   * OpenAI's API; named as vLLM and transformers name it.
   */
  continue_final_message?: boolean | null;
}

export type StreamingParams = ChatCompletionParams & { stream: true };
export type WholeParams = ChatCompletionParams & { stream?: false | null };

export interface TokenLogprob {
  token: string;
  /** Natural logarithm; -9999 for a token that can't come. */
  logprob: number;
  /** UTF-8 of the token; a character may span several tokens. */
  bytes: number[] | null;
}

export interface ContentLogprob extends TokenLogprob {
  top_logprobs: TokenLogprob[];
}

export interface Logprobs {
  content: ContentLogprob[];
  refusal: null;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  extra: {
    /** Null where there was nothing to measure, such as no second token. */
    prefill_tokens_per_s: number | null;
    decode_tokens_per_s: number | null;
    time_to_first_token_s: number | null;
    cached_tokens: number;
    e2e_latency_s: number;
  };
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since the epoch. */
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string };
    logprobs: Logprobs | null;
    finish_reason: FinishReason | null;
  }[];
  /** On the last chunk, whose `choices` are empty, if `stream_options.include_usage`. */
  usage?: Usage | null;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Seconds since the epoch. */
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: "assistant"; content: string; refusal: null };
    logprobs: Logprobs | null;
    finish_reason: FinishReason;
  }[];
  usage: Usage;
}
