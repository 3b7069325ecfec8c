// CUDA's functions of numbers.
#pragma once
#include <math.h>  // declares the float overloads in the global namespace, as CUDA does

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emu {
template <class T, class U>
using Common = std::common_type_t<T, U>;
}

using std::isfinite;
using std::isinf;
using std::isnan;
template <class T, class U>
emu::Common<T, U> max(T a, U b) {  // CUDA's accepts mixed types, and ignores nan if the other is a number
  using C = emu::Common<T, U>;
  if constexpr (std::is_floating_point_v<C>)
    return fmax(C(a), C(b));
  else
    return C(a) < C(b) ? C(b) : C(a);
}
template <class T, class U>
emu::Common<T, U> min(T a, U b) {
  using C = emu::Common<T, U>;
  if constexpr (std::is_floating_point_v<C>)
    return fmin(C(a), C(b));
  else
    return C(b) < C(a) ? C(b) : C(a);
}
inline void sincos(float x, float *s, float *c) { sincosf(x, s, c); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float saturate(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
inline float __saturatef(float x) { return saturate(x); }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned __int128)a * b >> 64;
}
template <class To, class From>
To emu_bits(From x) {
  To y;
  static_assert(sizeof x == sizeof y);
  memcpy(&y, &x, sizeof y);
  return y;
}
inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emu_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
inline float __int_as_float(int x) { return emu_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emu_bits<double>(x); }
template <class T>
T __ldg(const T *p) {
  return *p;
}
template <class T>
T __ldcs(const T *p) {
  return *p;
}
template <class T>
void __stcs(T *p, T v) {
  *p = v;
}
