/** From token events to OpenAI's objects. */
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ContentLogprob,
  FinishReason,
  Logprobs,
  Usage,
} from "../shared/openai.ts";
import type { TokenEvent } from "./generation.ts";

/** Counts tokens and time of one request; time in milliseconds from its creation. */
export class Meter {
  readonly #start = performance.now();
  #promptTokens = 0;
  #cachedTokens = 0;
  #answerTokens = 0;
  #firstTokenMs: number | null = null;
  #prefillMs = 0;
  #decodeSteps = 0;
  #decodeMs = 0;

  /** The prompt of `tokens` was read, of which `cached` needn't be. */
  prefilled(tokens: number, cached: number, ms: number): void {
    this.#promptTokens = tokens;
    this.#cachedTokens = cached;
    this.#prefillMs = ms;
  }

  decoded(ms: number): void {
    this.#decodeSteps += 1;
    this.#decodeMs += ms;
  }

  drew(): void {
    this.#answerTokens += 1;
    this.#firstTokenMs ??= performance.now() - this.#start;
  }

  usage(): Usage {
    const cached_tokens = this.#cachedTokens;
    return {
      prompt_tokens: this.#promptTokens,
      completion_tokens: this.#answerTokens,
      total_tokens: this.#promptTokens + this.#answerTokens,
      prompt_tokens_details: { cached_tokens },
      extra: {
        prefill_tokens_per_s: perSecond(this.#promptTokens - cached_tokens, this.#prefillMs),
        decode_tokens_per_s: perSecond(this.#decodeSteps, this.#decodeMs),
        time_to_first_token_s: this.#firstTokenMs === null ? null : this.#firstTokenMs / 1000,
        cached_tokens,
        e2e_latency_s: (performance.now() - this.#start) / 1000,
      },
    };
  }
}

function perSecond(count: number, ms: number): number | null {
  return count > 0 && ms > 0 ? (count / ms) * 1000 : null;
}

/** Makes the chunks of one request. */
export class Chunks {
  readonly #head: Pick<ChatCompletionChunk, "id" | "object" | "created" | "model">;
  readonly #withLogprobs: boolean;
  readonly #withUsage: boolean;

  constructor(model: string, options: { logprobs: boolean; usage: boolean }) {
    this.#withLogprobs = options.logprobs;
    this.#withUsage = options.usage;
    this.#head = { ...head(model), object: "chat.completion.chunk" };
  }

  role(index: number): ChatCompletionChunk {
    return this.#chunk(index, { role: "assistant", content: "" }, [], null);
  }

  /** Text and end of an event; the end comes in a chunk of its own. */
  *of({ choice, text, logprobs, finish }: TokenEvent): Generator<ChatCompletionChunk> {
    if (text || logprobs.length > 0) yield this.#chunk(choice, { content: text }, logprobs, null);
    if (finish) yield this.#chunk(choice, {}, [], finish);
  }

  usage(usage: Usage): ChatCompletionChunk {
    return { ...this.#head, choices: [], usage };
  }

  #chunk(
    index: number,
    delta: { role?: "assistant"; content?: string },
    content: readonly ContentLogprob[],
    finish_reason: FinishReason | null,
  ): ChatCompletionChunk {
    const logprobs = this.#withLogprobs && content.length > 0 ? listed(content) : null;
    const choices = [{ index, delta, logprobs, finish_reason }];
    return { ...this.#head, choices, ...(this.#withUsage && { usage: null }) };
  }
}

/** The events of all choices as one object. */
export function wholeCompletion(
  model: string,
  choices: readonly (readonly TokenEvent[])[],
  options: { logprobs: boolean; usage: Usage },
): ChatCompletion {
  return {
    ...head(model),
    object: "chat.completion",
    choices: choices.map((events, index) => ({
      index,
      message: {
        role: "assistant",
        content: events.map(({ text }) => text).join(""),
        refusal: null,
      },
      logprobs: options.logprobs ? listed(events.flatMap(({ logprobs }) => logprobs)) : null,
      finish_reason: events.at(-1)?.finish ?? "stop",
    })),
    usage: options.usage,
  };
}

function head(model: string): { id: string; created: number; model: string } {
  const created = Math.floor(Date.now() / 1000);
  return { id: `chatcmpl-${crypto.randomUUID()}`, created, model };
}

function listed(content: readonly ContentLogprob[]): Logprobs {
  return { content: [...content], refusal: null };
}
