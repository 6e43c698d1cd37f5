/** One choice of an answer while it is written. */
import type { ContentLogprob, FinishReason, TokenLogprob } from "../shared/openai.ts";
import { Detokenizer } from "./detokenizer.ts";
import type { Drawn, DrawRequest } from "./drawing.ts";
import type { CompletionRequest } from "./request.ts";
import { Sampler, type Sample, type ScoredToken } from "./sampler.ts";
import type { OpenText } from "./sequence.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** What a token added to a choice; often nothing that can be shown yet. */
export interface TokenEvent {
  readonly choice: number;
  readonly text: string;
  /** Of all tokens since the last event that had text. */
  readonly logprobs: readonly ContentLogprob[];
  readonly finish: FinishReason | null;
}

export interface GenerationContext {
  readonly request: CompletionRequest;
  readonly vocabulary: Vocabulary;
  /** Tokens that may be drawn are below it. */
  readonly activeVocabSize: number;
  readonly stopTokens: ReadonlySet<number>;
  /** In tokens, prompt included. */
  readonly contextWindowSize: number;
  readonly prompt: readonly number[];
  readonly seed: number;
  readonly deterministic: boolean;
}

export class Generation implements OpenText {
  /** Prompt and answer so far. */
  readonly tokens: number[];
  readonly #choice: number;
  readonly #context: GenerationContext;
  readonly #sampler: Sampler;
  readonly #detokenizer: Detokenizer;
  #logprobs: ContentLogprob[] = [];
  #finish: FinishReason | null = null;

  constructor(context: GenerationContext, choice: number) {
    const { request, vocabulary, prompt, seed } = context;
    this.#context = context;
    this.#choice = choice;
    this.tokens = [...prompt];
    this.#sampler = new Sampler(request.sampling, seed, choice, prompt);
    this.#detokenizer = new Detokenizer(vocabulary, request.stop, { goesOn: request.begun !== "" });
  }

  get finished(): boolean {
    return this.#finish !== null;
  }

  get promptLength(): number {
    return this.#context.prompt.length;
  }

  get deterministic(): boolean {
    return this.#context.deterministic;
  }

  /** How many tokens were drawn, the one that ended the answer included. */
  get length(): number {
    return this.tokens.length - this.promptLength;
  }

  drawing(ahead: number): DrawRequest | null {
    const foreseen = ahead === 0 || (this.#sampler.foresees && !this.#isFull(ahead));
    return foreseen ? this.#sampler.request(this.#context.activeVocabSize, ahead) : null;
  }

  /** Draws the next token from float32[vocabulary], or takes the one that was drawn. */
  accept(logits: Float32Array | Drawn): TokenEvent {
    const { activeVocabSize } = this.#context;
    const active = logits instanceof Float32Array ? logits.subarray(0, activeVocabSize) : logits;
    const sample = this.#sampler.sample(active);
    this.tokens.push(sample.id);
    const { request, stopTokens } = this.#context;
    if (!request.ignoreEos && stopTokens.has(sample.id)) return this.end("stop");
    if (request.sampling.logprobs !== null) this.#logprobs.push(this.#scored(sample));
    const { text, stopped } = this.#detokenizer.push(sample.id);
    if (stopped) return this.#event(text, "stop");
    if (!this.#isFull()) return this.#event(text, null);
    const end = this.end("length");
    return { ...end, text: text + end.text };
  }

  /** Ends the answer; gives what was held back. */
  end(reason: FinishReason): TokenEvent {
    const { text, stopped } = this.#detokenizer.finish();
    return this.#event(text, stopped ? "stop" : reason);
  }

  /** Whether that's all, with so many tokens more. */
  #isFull(more = 0): boolean {
    const { request, contextWindowSize } = this.#context;
    if (this.tokens.length + more >= contextWindowSize) return true;
    return request.maxTokens !== null && this.length + more >= request.maxTokens;
  }

  #event(text: string, finish: FinishReason | null): TokenEvent {
    this.#finish = finish;
    const choice = this.#choice;
    if (text === "" && finish === null) return { choice, text, logprobs: [], finish };
    const logprobs = this.#logprobs;
    this.#logprobs = [];
    return { choice, text, logprobs, finish };
  }

  #scored(sample: Sample): ContentLogprob {
    return { ...this.#named(sample), top_logprobs: sample.top.map((token) => this.#named(token)) };
  }

  #named({ id, logprob }: ScoredToken): TokenLogprob {
    const { vocabulary } = this.#context;
    return { token: vocabulary.text(id), logprob, bytes: [...vocabulary.bytes(id)] };
  }
}
