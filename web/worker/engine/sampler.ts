/** From logits to a token. */
import { EngineError } from "../shared/errors.ts";
import { Drawn, drawSettings, type DrawRequest, type Score } from "./drawing.ts";
import { Penalties } from "./penalties.ts";
import { uniform } from "./philox.ts";
import type { SamplingSettings } from "./request.ts";
import { draw, exponentialSum, largest } from "./truncation.ts";

const LOWEST_LOGPROB = -9999;

/** A token and its natural log probability. */
export interface ScoredToken {
  readonly id: number;
  readonly logprob: number;
}

export interface Sample extends ScoredToken {
  /** The most probable tokens, best first; empty unless they were asked for. */
  readonly top: readonly ScoredToken[];
}

/**
 * Draws the tokens of one choice.
 *
 * Scores are the logits l after
 *
 * 1. repetition penalty r, for each token of prompt or answer: l / r if l > 0, else l * r
 * 2. for each token that the answer has c times: l - presence - c * frequency
 * 3. logit bias, which is added
 *
 * in double precision, rounded to float32 (what is finite stays so). Log probabilities that are
 * reported are the log softmax of the scores, at least -9999. Tokens are ordered by score, the lower
 * id first among equals. Then, as transformers' logits warpers do,
 *
 * 4. temperature 0 takes the first token; else p = softmax(score / temperature), where scores of
 *    Infinity share all of the probability
 * 5. top_k keeps the first k tokens
 * 6. top_p keeps the first of these until their sum reaches top_p times the sum of these
 * 7. min_p keeps of these the ones with at least min_p times the first one's probability
 *
 * and of what is kept, in order of id, the token is the first whose running sum exceeds u times the
 * sum; u is `uniform(seed, choice, position)`.
 *
 * A device that draws does so by the same numbers in single precision: it may decide otherwise where one lies
 * within some millionths of a border.
 */
export class Sampler {
  readonly #settings: SamplingSettings;
  readonly #seed: number;
  readonly #choice: number;
  readonly #penalties: Penalties;
  #position = 0;

  constructor(settings: SamplingSettings, seed: number, choice: number, prompt: readonly number[]) {
    this.#settings = settings;
    this.#seed = seed;
    this.#choice = choice;
    this.#penalties = new Penalties(settings, prompt);
  }

  /** Whether what is drawn next changes nothing about how the tokens after it are drawn. */
  get foresees(): boolean {
    return !this.#penalties.countsTokens;
  }

  /** What draws a token among the first `count` on a device: the next one, or the one that comes `ahead` of it. */
  request(count: number, ahead = 0): DrawRequest {
    const u = uniform(this.#seed, this.#choice, this.#position + ahead);
    return { settings: drawSettings(this.#settings, count, u), adjustments: this.#penalties.adjustments() };
  }

  /**
   * The next token, which is drawn from float32[vocabulary], which isn't changed, or was drawn by `request`.
   *
   * Throws EngineError "internal" for logits with NaN, or of -Infinity only; the sampler is then as
   * it was.
   */
  sample(logits: Float32Array | Drawn): Sample {
    const sample = logits instanceof Drawn ? this.#accept(logits) : this.#draw(logits);
    this.#penalties.drew(sample.id);
    this.#position += 1;
    return sample;
  }

  #accept(drawn: Drawn): Sample {
    const { token, highest, sum } = drawn;
    if (Number.isNaN(highest)) throw unusable("not numbers");
    if (highest === Number.NEGATIVE_INFINITY) throw unusable("all -Infinity");
    return this.#report(token, highest, { sum: () => sum, top: () => drawn.top });
  }

  #draw(logits: Float32Array): Sample {
    const scores = this.#penalties.applies ? this.#penalties.scores(logits) : logits;
    const first = likeliest(scores);
    const highest = scores[first] as number;
    const { temperature } = this.#settings;
    const u = uniform(this.#seed, this.#choice, this.#position);
    const id = temperature === 0 ? first : draw(scores, highest, this.#settings, u);
    const score = (token: number): Score => ({ id: token, score: scores[token] as number });
    return this.#report(score(id), highest, {
      sum: () => exponentialSum(scores, highest),
      top: (count) => largest(scores, count).map(score),
    });
  }

  #report(token: Score, highest: number, { sum, top }: { sum: () => number; top: (count: number) => Score[] }): Sample {
    const { logprobs } = this.#settings;
    if (logprobs === null) return { id: token.id, logprob: 0, top: [] };
    const offset = Math.log(sum());
    const scored = ({ id, score }: Score): ScoredToken => {
      const relative = score === highest ? 0 : score - highest;
      return { id, logprob: Math.max(relative - offset, LOWEST_LOGPROB) };
    };
    return { ...scored(token), top: top(logprobs).map(scored) };
  }
}

/** The id of the largest score, the lowest among equals. */
function likeliest(scores: Float32Array): number {
  let first = 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score <= highest) continue;
    if (Number.isNaN(score)) throw unusable("not numbers");
    first = id;
    highest = score;
  }
  if (highest === Number.NEGATIVE_INFINITY) throw unusable("all -Infinity");
  return first;
}

function unusable(what: string): EngineError {
  return new EngineError({
    code: "internal",
    message: `The model's logits are ${what}.`,
    remedy: "Load the model again; if that fails, its weights may be damaged.",
  });
}
