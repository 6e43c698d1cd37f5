/** Counter-based random numbers: no state, so an answer's draws don't depend on what ran before. */

const MULTIPLIER_A = 0xd2511f53;
const MULTIPLIER_B = 0xcd9e8d57;
const WEYL_A = 0x9e3779b9;
const WEYL_B = 0xbb67ae85;

/** 64-bit product of two unsigned 32-bit numbers as [high, low]. */
function multiply(a: number, b: number): [number, number] {
  const low = Math.imul(a, b) >>> 0;
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000);
  const carried = aLow * bHigh + (middle % 0x10000);
  return [(aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carried / 0x10000)) >>> 0, low];
}

export type Words = [number, number, number, number];

/**
 * Philox4x32-10 (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405).
 *
 * `counter` is four and `key` two unsigned 32-bit numbers.
 */
export function philox(counter: Words, key: [number, number]): Words {
  let [a, b, c, d] = counter;
  let [keyA, keyB] = key;
  for (let round = 0; round < 10; round++) {
    const [highA, lowA] = multiply(MULTIPLIER_A, a);
    const [highB, lowB] = multiply(MULTIPLIER_B, c);
    [a, b, c, d] = [(highB ^ b ^ keyA) >>> 0, lowB, (highA ^ d ^ keyB) >>> 0, lowA];
    keyA = (keyA + WEYL_A) >>> 0;
    keyB = (keyB + WEYL_B) >>> 0;
  }
  return [a, b, c, d];
}

/**
 * The uniform number in [0, 1) that draws token `position` (0 is the answer's first) of `choice`.
 *
 * Philox4x32-10 with key (low, high 32 bits of the seed's two's complement) and counter
 * (position, choice, 0, 0); the number is its first word / 2^32.
 */
export function uniform(seed: number, choice: number, position: number): number {
  const key: [number, number] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  return philox([position >>> 0, choice >>> 0, 0, 0], key)[0] / 2 ** 32;
}
