/** Numbers as bytes of a library's float type, and back. */

export type FloatType = "float32" | "float16";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

export function encodeFloats(values: ArrayLike<number>, dtype: FloatType): Uint8Array<ArrayBuffer> {
  const encoded =
    dtype === "float32" ? Float32Array.from(values) : Uint16Array.from(Array.from(values), toFloat16);
  return new Uint8Array(encoded.buffer);
}

export function decodeFloats(bytes: Uint8Array, dtype: FloatType): Float32Array {
  const { buffer } = bytes.slice();
  if (dtype === "float32") return new Float32Array(buffer);
  const words = Uint32Array.from(new Uint16Array(buffer), float16Bits);
  return new Float32Array(words.buffer);
}

/** The bits of a float16 as those of the same float32. */
export function float16Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Too small for a 16-bit exponent: shift the leading one out of the fraction.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

/** The bits of the nearest float16, ties to even. */
function toFloat16(value: number): number {
  float[0] = value;
  const whole = bits[0] ?? 0;
  const sign = (whole >>> 16) & 0x8000;
  const magnitude = whole & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Below the least exponent the spacing stays that of 2 ** -24: adding 0.5 rounds to it.
  if (magnitude < 0x38800000) {
    float[0] = Math.abs(value) + 0.5;
    return sign | ((bits[0] ?? 0) - 0x3f000000);
  }
  const odd = (magnitude >>> 13) & 1;
  return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
}
