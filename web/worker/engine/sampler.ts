/** From logits to a token. */
import type { SamplingSettings } from "./protocol.ts";
import { uniform } from "./philox.ts";

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
 * Draws the tokens of one choice. All arithmetic is in double precision, in this order:
 *
 * 1. repetition penalty r, for each token of prompt or answer: l / r if l > 0, else l * r
 * 2. for each token that the answer has c times: l - presence - c * frequency
 * 3. logit bias is added; log probabilities that are reported are the log softmax of this
 * 4. temperature 0 takes the largest, the lowest id among equals; else p = softmax(l / temperature)
 * 5. top_p keeps the most probable (lower id first among equals) until their sum, in that order,
 *    reaches top_p
 * 6. of the kept, in order of id, the first whose running sum exceeds u * (their sum); u is
 *    `uniform(seed, choice, position)`
 */
export class Sampler {
  readonly #settings: SamplingSettings;
  readonly #seed: number;
  readonly #choice: number;
  readonly #seen: Set<number>;
  readonly #counts = new Map<number, number>();
  #position = 0;

  constructor(settings: SamplingSettings, seed: number, choice: number, prompt: readonly number[]) {
    this.#settings = settings;
    this.#seed = seed;
    this.#choice = choice;
    this.#seen = new Set(settings.repetitionPenalty === 1 ? [] : prompt);
  }

  /** Draws the next token from float32[vocabulary], which isn't changed. */
  sample(logits: Float32Array): Sample {
    const scores = this.#scores(logits);
    const { temperature } = this.#settings;
    const id = temperature === 0 ? largest(scores) : this.#draw(scores, temperature);
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    this.#seen.add(id);
    this.#position += 1;
    return this.#report(scores, id);
  }

  #scores(logits: Float32Array): Float64Array {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.#settings;
    const scores = new Float64Array(logits);
    if (repetitionPenalty !== 1) {
      for (const id of this.#seen) {
        const score = scores[id] ?? 0;
        scores[id] = score > 0 ? score / repetitionPenalty : score * repetitionPenalty;
      }
    }
    for (const [id, count] of this.#counts) {
      scores[id] = (scores[id] ?? 0) - presencePenalty - count * frequencyPenalty;
    }
    for (const [id, bias] of logitBias) scores[id] = (scores[id] ?? 0) + bias;
    return scores;
  }

  #draw(scores: Float64Array, temperature: number): number {
    const probabilities = softmax(scores.map((score) => score / temperature));
    const { topP } = this.#settings;
    const kept = topP < 1 ? nucleus(probabilities, topP) : null;
    const u = uniform(this.#seed, this.#choice, this.#position);
    let mass = 0;
    forEach(kept ?? probabilities.length, (id) => {
      mass += probabilities[id] ?? 0;
    });
    let sum = 0;
    let chosen = -1;
    let last = 0;
    forEach(kept ?? probabilities.length, (id) => {
      sum += probabilities[id] ?? 0;
      if (chosen < 0 && sum > u * mass) chosen = id;
      last = id;
    });
    return chosen < 0 ? last : chosen;
  }

  #report(scores: Float64Array, id: number): Sample {
    const { logprobs } = this.#settings;
    if (logprobs === null) return { id, logprob: 0, top: [] };
    const offset = logSumExp(scores);
    const scored = (token: number): ScoredToken => ({
      id: token,
      logprob: Math.max((scores[token] ?? 0) - offset, -9999),
    });
    return { ...scored(id), top: largestFew(scores, logprobs).map(scored) };
  }
}

/** Runs over the ids of a list, or over 0 to a number, without making a list of them. */
function forEach(ids: Uint32Array | number, visit: (id: number) => void): void {
  if (typeof ids === "number") for (let id = 0; id < ids; id++) visit(id);
  else for (const id of ids) visit(id);
}

function largest(scores: Float64Array): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) {
    if ((scores[id] ?? 0) > (scores[best] ?? 0)) best = id;
  }
  return best;
}

function softmax(scores: Float64Array): Float64Array {
  const highest = scores[largest(scores)] ?? 0;
  let sum = 0;
  const powers = scores.map((score) => {
    const power = Math.exp(score - highest);
    sum += power;
    return power;
  });
  return powers.map((power) => power / sum);
}

function logSumExp(scores: Float64Array): number {
  const highest = scores[largest(scores)] ?? 0;
  return highest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - highest), 0));
}

/** Ids of the smallest set of most probable tokens that together reach `topP`, in order of id. */
function nucleus(probabilities: Float64Array, topP: number): Uint32Array {
  // What is less likely than this can't be among them, and needn't be sorted.
  const cutoff = (1 - topP) / Math.max(probabilities.length - 1, 1);
  const candidates: number[] = [];
  for (let id = 0; id < probabilities.length; id++) {
    if ((probabilities[id] ?? 0) >= cutoff) candidates.push(id);
  }
  candidates.sort((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0) || a - b);
  let sum = 0;
  const end = candidates.findIndex((id) => (sum += probabilities[id] ?? 0) >= topP);
  return Uint32Array.from(end < 0 ? candidates : candidates.slice(0, end + 1)).sort();
}

function largestFew(scores: Float64Array, count: number): number[] {
  const best: number[] = [];
  for (let id = 0; id < scores.length && count > 0; id++) {
    const score = scores[id] ?? 0;
    if (best.length === count && score <= (scores[best.at(-1) ?? 0] ?? 0)) continue;
    const place = best.findIndex((other) => score > (scores[other] ?? 0));
    best.splice(place < 0 ? best.length : place, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}
