/** From a model's logits to the scores that its tokens are drawn by. */
import type { Adjustments } from "./drawing.ts";
import type { SamplingSettings } from "./request.ts";

const LARGEST_FINITE = 3.4028234663852886e38;
const FEWEST_ADJUSTMENTS = 16;

/** What one choice does to a token's score. */
interface Touch {
  /** Among the adjustments. */
  readonly place: number;
  bias: number;
  /** How often the answer has it. */
  count: number;
  /** It is in prompt or answer. */
  repeated: boolean;
}

/**
 * Penalties and bias of one choice, as `Sampler` defines them.
 *
 * A step's work grows with the tokens that they touch, not with the vocabulary.
 */
export class Penalties {
  readonly applies: boolean;
  /** Whether they depend on what was drawn. */
  readonly countsTokens: boolean;
  readonly #settings: SamplingSettings;
  readonly #touches = new Map<number, Touch>();
  #scores = new Float32Array(0);
  #adjustments = noAdjustments(FEWEST_ADJUSTMENTS);

  constructor(settings: SamplingSettings, prompt: readonly number[]) {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = settings;
    this.#settings = settings;
    this.countsTokens = repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    this.applies = this.countsTokens || logitBias.size > 0;
    for (const [id, bias] of logitBias) this.#touch(id, { bias });
    if (repetitionPenalty !== 1) for (const id of prompt) this.#touch(id, { repeated: true });
  }

  /** The answer has one more token. */
  drew(id: number): void {
    if (!this.countsTokens) return;
    this.#touch(id, { count: (this.#touches.get(id)?.count ?? 0) + 1, repeated: true });
  }

  /** Scores float32[vocabulary] of such logits, which aren't changed; overwritten by the next call. */
  scores(logits: Float32Array): Float32Array {
    if (this.#scores.length !== logits.length) this.#scores = new Float32Array(logits.length);
    const scores = this.#scores;
    scores.set(logits);
    for (const [id, touch] of this.#touches) {
      // Tokens that a prompt may have but an answer may not lie beyond the logits.
      if (id < logits.length) scores[id] = this.#score(logits[id] as number, touch);
    }
    return scores;
  }

  /** The same for the device, which rounds each step to float32; changed by the next token. Null if none apply. */
  adjustments(): Adjustments | null {
    return this.applies ? this.#adjustments : null;
  }

  #score(logit: number, { bias, count, repeated }: Touch): number {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = this.#settings;
    let score = logit;
    if (repeated) score = score > 0 ? score / repetitionPenalty : score * repetitionPenalty;
    if (count > 0) score = score - presencePenalty - count * frequencyPenalty;
    score += bias;
    if (!Number.isFinite(score)) return score;
    return Math.min(Math.max(score, -LARGEST_FINITE), LARGEST_FINITE);
  }

  #touch(id: number, change: Partial<Touch>): void {
    const place = this.#touches.size;
    const touch = { place, bias: 0, count: 0, repeated: false, ...this.#touches.get(id), ...change };
    this.#touches.set(id, touch);
    this.#adjust(id, touch);
  }

  #adjust(id: number, { place, bias, count, repeated }: Touch): void {
    const { ids: full } = this.#adjustments;
    if (place === full.length) {
      const { values } = this.#adjustments;
      this.#adjustments = noAdjustments(2 * full.length);
      this.#adjustments.ids.set(full);
      this.#adjustments.values.set(values);
    }
    const { ids, values } = this.#adjustments;
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = this.#settings;
    ids[place] = id;
    values[2 * place] = repeated ? repetitionPenalty : 1;
    values[2 * place + 1] = bias - (count > 0 ? presencePenalty + count * frequencyPenalty : 0);
  }
}

function noAdjustments(room: number): Adjustments {
  return { ids: new Int32Array(room).fill(-1), values: new Float32Array(2 * room) };
}
