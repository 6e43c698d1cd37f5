// What each of PTX's operations computes; https://docs.nvidia.com/cuda/parallel-thread-execution/.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "ptx.h"

namespace ptx {
namespace {

struct Half {
  uint16_t bits;
  explicit operator double() const { return _cvtsh_ss(bits); }
};

template <class T>
T Get(const Thread& t, int place) {
  T value;
  std::memcpy(&value, &t.registers[place], sizeof value);
  return value;
}

template <class T>
void Put(Thread& t, int place, T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  t.registers[place] = bits;
}

template <class T>
T In(const Thread& t, const Instruction& i, int index) {
  return Get<T>(t, i.in[index]);
}

template <class T, class F>
void Unary(Thread& t, const Instruction& i) {
  Put<T>(t, i.out[0], F()(In<T>(t, i, 0)));
}

template <class T, class F>
void Binary(Thread& t, const Instruction& i) {
  Put<T>(t, i.out[0], F()(In<T>(t, i, 0), In<T>(t, i, 1)));
}

inline Half Halved(double value) { return {static_cast<uint16_t>(_cvtss_sh(static_cast<float>(value), 0))}; }

template <class F>
void BinaryHalf(Thread& t, const Instruction& i) {
  Put<Half>(t, i.out[0], Halved(F()(double(In<Half>(t, i, 0)), double(In<Half>(t, i, 1)))));
}

// Of operators: what they do to two values of the same type, whole numbers without overflow.
#define OPERATOR(NAME, EXPRESSION)              \
  struct NAME {                                 \
    template <class T>                          \
    T operator()(T a, T b) const {              \
      return static_cast<T>(EXPRESSION);        \
    }                                           \
  };
template <class T>
using Wide = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;
OPERATOR(Add, Wide<T>(a) + Wide<T>(b))
OPERATOR(Sub, Wide<T>(a) - Wide<T>(b))
OPERATOR(Mul, Wide<T>(a) * Wide<T>(b))
OPERATOR(Div, b == 0 && std::is_integral_v<T> ? T(-1) : a / b)
OPERATOR(Min, std::isnan(double(a)) ? b : std::isnan(double(b)) ? a : a < b ? a : b)
OPERATOR(Max, std::isnan(double(a)) ? b : std::isnan(double(b)) ? a : a > b ? a : b)
OPERATOR(Rem, b == 0 ? a : a % b)
OPERATOR(And, a & b)
OPERATOR(Or, a | b)
OPERATOR(Xor, a ^ b)
#define FUNCTION(NAME, EXPRESSION)              \
  struct NAME {                                 \
    template <class T>                          \
    T operator()(T a) const {                   \
      return static_cast<T>(EXPRESSION);        \
    }                                           \
  };
FUNCTION(Same, a)
FUNCTION(Not, ~a)
FUNCTION(Neg, -a)
FUNCTION(Abs, std::abs(a))
FUNCTION(Exp2, std::exp2(a))
FUNCTION(Log2, std::log2(a))
FUNCTION(Sine, std::sin(a))
FUNCTION(Cosine, std::cos(a))
FUNCTION(Rsqrt, 1.0 / std::sqrt(double(a)))
FUNCTION(Sqrt, std::sqrt(a))
FUNCTION(Rcp, T(1) / a)

// Amounts beyond the width shift everything out.
template <class T, bool kLeft>
void Shift(Thread& t, const Instruction& i) {
  T value = In<T>(t, i, 0);
  uint32_t by = In<uint32_t>(t, i, 1), width = 8 * sizeof(T);
  if (kLeft) {
    Put<T>(t, i.out[0], by >= width ? 0 : static_cast<T>(std::make_unsigned_t<T>(value) << by));
  } else {
    Put<T>(t, i.out[0], by >= width ? (value < 0 ? T(-1) : T(0)) : static_cast<T>(value >> by));
  }
}

template <class From, class To>
void MulWide(Thread& t, const Instruction& i) {
  To sum = i.in.size() > 2 ? In<To>(t, i, 2) : 0;
  Put<To>(t, i.out[0], To(In<From>(t, i, 0)) * To(In<From>(t, i, 1)) + sum);
}

template <class T>
void MulHigh(Thread& t, const Instruction& i) {
  using Twice = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  Put<T>(t, i.out[0], static_cast<T>((Twice(In<T>(t, i, 0)) * Twice(In<T>(t, i, 1))) >> 32));
}

template <class T>
void MulAdd(Thread& t, const Instruction& i) {
  Put<T>(t, i.out[0], Add()(Mul()(In<T>(t, i, 0), In<T>(t, i, 1)), In<T>(t, i, 2)));
}

template <class T>
void Fma(Thread& t, const Instruction& i) {
  Put<T>(t, i.out[0], std::fma(In<T>(t, i, 0), In<T>(t, i, 1), In<T>(t, i, 2)));
}

// Towards minus infinity.
void FmaDown(Thread& t, const Instruction& i) {
  double exact = std::fma(double(In<float>(t, i, 0)), double(In<float>(t, i, 1)), double(In<float>(t, i, 2)));
  float near = static_cast<float>(exact);
  Put<float>(t, i.out[0], near > exact ? std::nextafterf(near, -INFINITY) : near);
}

void FmaHalf(Thread& t, const Instruction& i) {
  double sum = std::fma(double(In<Half>(t, i, 0)), double(In<Half>(t, i, 1)), double(In<Half>(t, i, 2)));
  Put<Half>(t, i.out[0], Halved(sum));
}

template <class T>
void Select(Thread& t, const Instruction& i) {
  Put<T>(t, i.out[0], In<uint8_t>(t, i, 2) ? In<T>(t, i, 0) : In<T>(t, i, 1));
}

template <class T>
void Insert(Thread& t, const Instruction& i) {
  uint32_t at = In<uint32_t>(t, i, 2) & 0xff, count = In<uint32_t>(t, i, 3) & 0xff;
  T ones = count >= 8 * sizeof(T) ? ~T(0) : (T(1) << count) - 1, mask = at >= 8 * sizeof(T) ? 0 : ones << at;
  T a = at >= 8 * sizeof(T) ? 0 : In<T>(t, i, 0) << at;
  Put<T>(t, i.out[0], (a & mask) | (In<T>(t, i, 1) & ~mask));
}

enum Comparison { kEq, kNe, kLt, kLe, kGt, kGe };

// prmt: each byte of the result is one of eight, or copies of its sign.
inline void Permute(Thread& t, const Instruction& i) {
  const uint64_t bytes = In<uint32_t>(t, i, 0) | uint64_t{In<uint32_t>(t, i, 1)} << 32;
  const uint32_t choices = In<uint32_t>(t, i, 2);
  uint32_t made = 0;
  for (int place = 0; place < 4; ++place) {
    const uint32_t choice = choices >> 4 * place & 0xf;
    const uint32_t byte = bytes >> 8 * (choice & 7) & 0xff;
    made |= (choice & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << 8 * place;
  }
  Put<uint32_t>(t, i.out[0], made);
}

template <class T, Comparison kName, bool kUnordered>
bool Compare(const Thread& t, const Instruction& i) {
  double a = 0, b = 0;
  if constexpr (!std::is_integral_v<T>) {
    a = double(In<T>(t, i, 0)), b = double(In<T>(t, i, 1));
    if (std::isnan(a) || std::isnan(b)) return kUnordered;
  }
  auto compare = [](auto x, auto y) {
    switch (kName) {
      case kEq: return x == y;
      case kNe: return x != y;
      case kLt: return x < y;
      case kLe: return x <= y;
      case kGt: return x > y;
      default: return x >= y;
    }
  };
  if constexpr (std::is_integral_v<T>) return compare(In<T>(t, i, 0), In<T>(t, i, 1));
  return compare(a, b);
}

template <class T, Comparison kName, bool kUnordered>
void SetPredicate(Thread& t, const Instruction& i) {
  Put<uint64_t>(t, i.out[0], Compare<T, kName, kUnordered>(t, i));
}

// To 1 or 0 as halves.
template <class T, Comparison kName, bool kUnordered>
void SetHalf(Thread& t, const Instruction& i) {
  Put<uint16_t>(t, i.out[0], Compare<T, kName, kUnordered>(t, i) ? 0x3c00 : 0);
}

enum Rounding { kNearest, kZero, kDown, kUp, kSaturate };

template <class To, class From, Rounding kTo>
void Convert(Thread& t, const Instruction& i) {
  if constexpr (std::is_integral_v<From> && std::is_integral_v<To>) {
    Put<To>(t, i.out[0], static_cast<To>(In<From>(t, i, 0)));
  } else if constexpr (std::is_integral_v<From> && std::is_same_v<To, float>) {
    Put<float>(t, i.out[0], static_cast<float>(In<From>(t, i, 0)));
  } else if constexpr (std::is_integral_v<From> && std::is_same_v<To, double>) {
    Put<double>(t, i.out[0], static_cast<double>(In<From>(t, i, 0)));
  } else {
    double value = double(In<From>(t, i, 0));
    if constexpr (std::is_integral_v<To>) {
      double whole = kTo == kZero ? std::trunc(value) : kTo == kDown ? std::floor(value)
                   : kTo == kUp ? std::ceil(value) : std::nearbyint(value);
      double least = double(std::numeric_limits<To>::min()), most = double(std::numeric_limits<To>::max());
      To cut = std::isnan(whole) ? To(0) : whole <= least ? std::numeric_limits<To>::min()
             : whole >= most ? std::numeric_limits<To>::max() : static_cast<To>(whole);
      Put<To>(t, i.out[0], cut);
    } else if constexpr (std::is_same_v<To, Half>) {
      Put<Half>(t, i.out[0], Halved(value));
    } else {
      if (kTo == kSaturate) value = value > 0 ? (value < 1 ? value : 1) : 0;
      Put<To>(t, i.out[0], static_cast<To>(value));
    }
  }
}

// Of floats to whole floats.
template <Rounding kTo>
void RoundFloat(Thread& t, const Instruction& i) {
  float value = In<float>(t, i, 0);
  Put<float>(t, i.out[0], kTo == kZero ? std::trunc(value) : kTo == kDown ? std::floor(value)
                        : kTo == kUp ? std::ceil(value) : std::nearbyint(value));
}

// Halves of 32 bits, together or apart.
void Pack(Thread& t, const Instruction& i) {
  if (i.out.size() > 1) {
    uint64_t value = t.registers[i.in[0]];
    for (int place : i.out) t.registers[place] = value & 0xffff, value >>= 16;
  } else if (i.in.size() > 1) {
    t.registers[i.out[0]] = (t.registers[i.in[0]] & 0xffff) | (t.registers[i.in[1]] & 0xffff) << 16;
  } else {
    t.registers[i.out[0]] = t.registers[i.in[0]];
  }
}

enum Space { kGlobal, kShared, kLocal, kParameter };

template <class T, Space kSpace>
char* Place(Thread& t, const Instruction& i, size_t count) {
  if (kSpace == kShared) {
    int64_t at = static_cast<int64_t>(In<uint32_t>(t, i, 0)) + i.offset;
    size_t end = at + count * sizeof(T);
    if (at < 0 || end > t.block->shared.size()) throw Error(i.text + ": beyond shared memory");
    if (at % (count * sizeof(T))) throw Error(i.text + ": not aligned");
    return t.block->shared.data() + at;
  }
  char* at = reinterpret_cast<char*>(In<uint64_t>(t, i, 0)) + i.offset;
  if (reinterpret_cast<uint64_t>(at) % (count * sizeof(T))) throw Error(i.text + ": not aligned");
  if (kSpace == kLocal) {
    bool is_inside = at >= t.local.data() && at + count * sizeof(T) <= t.local.data() + t.local.size();
    if (!is_inside) throw Error(i.text + ": beyond local memory");
  } else {
    RequireAllocated(at, count * sizeof(T), i);
  }
  return at;
}

template <class T, Space kSpace>
void Load(Thread& t, const Instruction& i) {
  if (kSpace == kParameter) {
    t.registers[i.out[0]] = (*t.parameters)[i.offset];
    return;
  }
  char* from = Place<T, kSpace>(t, i, i.out.size());
  for (int place : i.out) {
    T value;
    std::memcpy(&value, from, sizeof value);
    Put<T>(t, place, value);
    from += sizeof value;
  }
}

template <class T, Space kSpace>
void Store(Thread& t, const Instruction& i) {
  char* to = Place<T, kSpace>(t, i, i.in.size() - 1);
  for (size_t index = 1; index < i.in.size(); ++index) {
    T value = In<T>(t, i, index);
    std::memcpy(to, &value, sizeof value);
    to += sizeof value;
  }
}

void Jump(Thread& t, const Instruction& i) { t.next = i.offset; }
void Return(Thread& t, const Instruction&) { t.state = State::kDone; }
void Barrier(Thread& t, const Instruction&) { t.state = State::kBarrier; }
void Shuffle(Thread& t, const Instruction&) { t.state = State::kShuffle; }
// Lanes that are done are not asked: kernels use it before they shuffle, all lanes alike.
void ActiveMask(Thread& t, const Instruction& i) { Put<uint32_t>(t, i.out[0], 0xffffffffu); }

}  // namespace
}  // namespace ptx
