/** Finds out whether a device draws tokens as the host does: where it doesn't, the host draws. */
import type { Drawn, DrawRequest } from "./drawing.ts";
import type { SamplingSettings } from "./request.ts";
import { Sampler } from "./sampler.ts";

/** From one token to another, in order of score, by less than one token's share of what is drawn. */
const STEEPNESS = 40;
const PLAIN: SamplingSettings = {
  temperature: 0,
  topP: 1,
  topK: null,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: new Map(),
  logprobs: null,
};
/** Few tokens have nearly all of the mass, so that no draw is near a border. */
const CASES: readonly SamplingSettings[] = [
  { ...PLAIN, logprobs: 5 },
  { ...PLAIN, temperature: 1, topK: 40, minP: 0.02 },
  { ...PLAIN, temperature: 0.02, topP: 0.9, repetitionPenalty: 1.2, logitBias: new Map([[0, 1]]) },
];
const SEED = 7;
/** How much a log probability may differ. */
const TOLERANCE = 1e-4;

export interface DrawSubject {
  readonly draws: boolean;
  /** Draws by logits float32[vocabulary]. */
  drawBy(logits: Float32Array<ArrayBuffer>, request: DrawRequest): Promise<Drawn>;
}

/** Of a vocabulary of that many logits, tokens below `count` are drawn. */
export async function drawsAsTheHost(
  subject: DrawSubject,
  { vocabSize, count }: { vocabSize: number; count: number },
): Promise<boolean> {
  // Multiples of the golden ratio spread evenly.
  const logits = Float32Array.from({ length: vocabSize }, (_, id) =>
    id < count ? (STEEPNESS * (Math.imul(id + 1, 0x9e3779b9) >>> 0)) / 2 ** 32 : NaN,
  );
  for (const [choice, settings] of CASES.entries()) {
    const [onDevice, onHost] = [0, 1].map(() => new Sampler(settings, SEED, choice, [0, 1, 2])) as [Sampler, Sampler];
    const drawn = await subject.drawBy(logits.slice(), onDevice.request(count));
    const wanted = onHost.sample(logits.subarray(0, count));
    const found = onDevice.sample(drawn);
    const pairs = [[found, wanted] as const, ...wanted.top.map((token, place) => [found.top[place], token] as const)];
    for (const [one, other] of pairs) {
      if (one?.id !== other.id || !(Math.abs(one.logprob - other.logprob) <= TOLERANCE)) return false;
    }
  }
  return true;
}
