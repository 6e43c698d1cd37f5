// Widening of IEEE 754 binary16 (https://ieeexplore.ieee.org/document/8766229, 3.6).
#ifndef COMPILER_RT_BUILTIN_FP16_H_
#define COMPILER_RT_BUILTIN_FP16_H_

#include <cmath>
#include <cstdint>

template <typename Half, typename HalfBits, int kHalfSignificand, typename Wide, typename WideBits,
          int kWideSignificand>
inline Wide __extendXfYf2__(Half bits) {
  static_assert(kHalfSignificand == 10 && kWideSignificand == 23, "only float16 to float32");
  const int exponent = (bits >> 10) & 0x1f;
  const int significand = bits & 0x3ff;
  const Wide sign = (bits & 0x8000) ? -1 : 1;
  if (exponent == 0x1f) return significand ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<Wide>(significand), -24);
  return sign * std::ldexp(static_cast<Wide>(significand | 0x400), exponent - 25);
}

#endif  // COMPILER_RT_BUILTIN_FP16_H_
