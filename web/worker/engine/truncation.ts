/** Which tokens may be drawn, and which of them is; over a whole vocabulary. */
import type { SamplingSettings } from "./request.ts";

/** The first token alone has a larger share of any vocabulary. */
export const LOWEST_TOP_P = 1e-12;
/** Powers of e below this together weigh nothing. */
const LOWEST_EXPONENT = -40;
/** Parts of a key, the highest first, that are looked at in turn. */
const DIGITS = [
  { shift: 20, mask: 0xfff },
  { shift: 8, mask: 0xfff },
  { shift: 0, mask: 0xff },
] as const;

const NEGATIVE_ZERO = -0x80000000;

const sums = new Float64Array(0x1000);
/** Reused from one draw to the next: each token's weight, its score as a key, and tokens at a border. */
let weights = new Float64Array(0);
let keys = new Uint32Array(0);
let places = new Uint32Array(0);

/** The first tokens by score: those whose key is above this one, and so many of its equals. */
interface Border {
  readonly key: number;
  readonly equals: number;
}

/**
 * The token that the number `u` in [0, 1) draws from float32[vocabulary]; see `Sampler`.
 *
 * `highest` is the largest of the scores; temperature is not 0.
 */
export function draw(
  scores: Float32Array,
  highest: number,
  { temperature, topK, topP, minP }: SamplingSettings,
  u: number,
): number {
  if (weights.length !== scores.length) {
    weights = new Float64Array(scores.length);
    keys = new Uint32Array(scores.length);
    places = new Uint32Array(scores.length);
  }
  let sum = weigh(scores, highest, temperature);
  const few = topK !== null && topK < scores.length ? topK : null;
  if (few !== null || topP < 1) setKeys(scores);
  if (few !== null) sum = keep(findBorder(few, "token"));
  if (topP < 1) sum = keep(findBorder(Math.max(topP, LOWEST_TOP_P) * sum, "weight"));
  if (minP > 0) sum = keepAtLeast(minP);
  return pick(u * sum);
}

/** The sum of exp(score - highest). */
export function exponentialSum(scores: Float32Array, highest: number): number {
  let sum = 0;
  for (let id = 0; id < scores.length; id++) sum += power(scores[id] as number, highest, 1);
  return sum;
}

/** Ids of the highest scores, highest first, the lower id first among equals. */
export function largest(scores: Float32Array, count: number): number[] {
  const ids: number[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < scores.length && count > 0; id++) {
    const score = scores[id] as number;
    if (ids.length === count && score <= least) continue;
    const place = ids.findIndex((other) => score > (scores[other] as number));
    ids.splice(place < 0 ? ids.length : place, 0, id);
    if (ids.length > count) ids.pop();
    least = scores[ids.at(-1) as number] as number;
  }
  return ids;
}

/** exp((score - highest) / temperature): 1 for the highest, also where that is infinite. */
function power(score: number, highest: number, temperature: number): number {
  if (score === highest) return 1;
  const exponent = (score - highest) / temperature;
  return exponent > LOWEST_EXPONENT ? Math.exp(exponent) : 0;
}

/** Sets all weights; returns their sum. */
function weigh(scores: Float32Array, highest: number, temperature: number): number {
  let sum = 0;
  for (let id = 0; id < scores.length; id++) {
    const weight = power(scores[id] as number, highest, temperature);
    weights[id] = weight;
    sum += weight;
  }
  return sum;
}

/** Keys are integers in the order of the scores: equal for equal scores, and so for both zeros. */
function setKeys(scores: Float32Array): void {
  const bits = new Int32Array(keys.buffer);
  new Float32Array(keys.buffer).set(scores);
  for (let id = 0; id < bits.length; id++) {
    const word = bits[id] === NEGATIVE_ZERO ? 0 : (bits[id] as number);
    // A negative number's bits grow with its size.
    keys[id] = word ^ ((word >> 31) | 0x80000000);
  }
}

/** Where the first tokens by score reach `goal`, in weight or in number; digit by digit, as in a radix sort. */
function findBorder(goal: number, unit: "weight" | "token"): Border {
  let rest = goal;
  let size = null;
  for (const { shift, mask } of DIGITS) {
    if (size === null) sumAll(shift, unit);
    else sumPlaces(size, shift, mask, unit);
    const digit = reached(rest, mask);
    for (let higher = mask; higher > digit; higher--) rest -= sums[higher] as number;
    size = size === null ? findAll(shift, digit) : findPlaces(size, shift, mask, digit);
  }
  const id = places[0] as number;
  const each = unit === "weight" ? (weights[id] as number) : 1;
  return { key: keys[id] as number, equals: Math.max(1, Math.ceil(rest / each)) };
}

function sumAll(shift: number, unit: "weight" | "token"): void {
  sums.fill(0);
  for (let id = 0; id < keys.length; id++) {
    const digit = (keys[id] as number) >>> shift;
    sums[digit] = (sums[digit] as number) + (unit === "weight" ? (weights[id] as number) : 1);
  }
}

function sumPlaces(size: number, shift: number, mask: number, unit: "weight" | "token"): void {
  sums.fill(0);
  for (let index = 0; index < size; index++) {
    const id = places[index] as number;
    const digit = ((keys[id] as number) >>> shift) & mask;
    sums[digit] = (sums[digit] as number) + (unit === "weight" ? (weights[id] as number) : 1);
  }
}

function findAll(shift: number, digit: number): number {
  let found = 0;
  for (let id = 0; id < keys.length; id++) {
    if ((keys[id] as number) >>> shift === digit) places[found++] = id;
  }
  return found;
}

function findPlaces(size: number, shift: number, mask: number, digit: number): number {
  let found = 0;
  for (let index = 0; index < size; index++) {
    const id = places[index] as number;
    if ((((keys[id] as number) >>> shift) & mask) === digit) places[found++] = id;
  }
  return found;
}

/** The digit at which the sums, from the highest down, reach `goal`; the lowest with a sum, if rounding keeps them below. */
function reached(goal: number, highest: number): number {
  let sum = 0;
  let lowest = highest;
  for (let digit = highest; digit >= 0; digit--) {
    if (sums[digit] === 0) continue;
    lowest = digit;
    sum += sums[digit] as number;
    if (sum >= goal) break;
  }
  return lowest;
}

/** Takes the weight of all tokens but the first ones; returns the sum of what is left. */
function keep({ key, equals }: Border): number {
  let sum = 0;
  let left = equals;
  for (let id = 0; id < keys.length; id++) {
    const other = keys[id] as number;
    if (other > key || (other === key && left-- > 0)) sum += weights[id] as number;
    else weights[id] = 0;
  }
  return sum;
}

function keepAtLeast(least: number): number {
  let sum = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id] as number;
    if (weight >= least) sum += weight;
    else weights[id] = 0;
  }
  return sum;
}

/** The first token whose running sum exceeds `goal`. */
function pick(goal: number): number {
  let sum = 0;
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id] as number;
    if (weight === 0) continue;
    sum += weight;
    if (sum > goal) return id;
    last = id;
  }
  return last;
}
