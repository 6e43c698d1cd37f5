/** What a library's `draw_token` takes and gives; see `Kernels.draw` in webbuild/kernels/interface.py. */
import type { SamplingSettings } from "./request.ts";
import { LOWEST_TOP_P } from "./truncation.ts";

const HEAD = 4;
/** Twice its inverse is a float32 still; scores that a lower temperature tells apart, this one does, too. */
const LOWEST_TEMPERATURE = 1e-38;
/** In units of the temperature, half of what weighs nothing. */
const CUTOFF = -20;

/** Changes of logits: of each id, -1 for none, what divides or multiplies it and what is added, two float32. */
export interface Adjustments {
  readonly ids: Int32Array<ArrayBuffer>;
  readonly values: Float32Array<ArrayBuffer>;
}

/** How the device draws a token. */
export interface DrawRequest {
  readonly settings: Float32Array<ArrayBuffer>;
  /** Null for none. */
  readonly adjustments: Adjustments | null;
}

/** The settings of a draw by the number `u` in [0, 1) among the first `count` tokens. */
export function drawSettings(sampling: SamplingSettings, count: number, u: number): Float32Array<ArrayBuffer> {
  const { temperature, topK, topP, minP, logprobs } = sampling;
  const scale = temperature === 0 ? 0 : 2 / Math.max(temperature, LOWEST_TEMPERATURE);
  const top = Math.min(logprobs ?? 0, count);
  return Float32Array.of(
    ...[count, u, scale, CUTOFF * temperature],
    ...[Math.min(topK ?? count, count), Math.max(topP, LOWEST_TOP_P), minP, top],
  );
}

export interface Score {
  readonly id: number;
  readonly score: number;
}

/** A token that the device drew. */
export class Drawn {
  readonly #ids: Int32Array;
  readonly #scores: Float32Array;
  readonly #top: number;

  constructor(words: Int32Array, { settings }: DrawRequest) {
    this.#ids = words;
    this.#top = settings.at(-1) as number;
    this.#scores = new Float32Array(words.buffer, words.byteOffset, words.length);
  }

  get token(): Score {
    return this.#at(0);
  }

  /** NaN if any score is. */
  get highest(): number {
    return this.#scores[2] as number;
  }

  /** Of exp(score - highest), over all tokens. */
  get sum(): number {
    return this.#scores[3] as number;
  }

  /** The first tokens by score, as many as were asked for. */
  get top(): Score[] {
    return Array.from({ length: this.#top }, (_, index) => this.#at(HEAD + 2 * index));
  }

  #at(place: number): Score {
    return { id: this.#ids[place] as number, score: this.#scores[place + 1] as number };
  }
}
