// Barriers, exchange between the lanes of a warp, and atomic operations.
#pragma once
#include "races.h"

namespace emu {

inline uint64_t exchanged[32][2][32];
inline unsigned votes[32][2][32];

inline unsigned lane() { return running & 31; }
EMU_UNSEEN inline unsigned flip() {
  unsigned p = fibers[running].parity;
  fibers[running].parity ^= 1;
  return p;
}
template <class T, class F>
EMU_UNSEEN T exchange(unsigned mask, T value, F source) {  // a negative source keeps the lane's own value
  static_assert(sizeof(T) <= 8);
  int warp = running >> 5;
  unsigned p = flip();
  memcpy(&exchanged[warp][p][lane()], &value, sizeof value);
  wait(AT_WARP, mask);
  int from = source(int(lane()));
  if (from >= 0) memcpy(&value, &exchanged[warp][p][from & 31], sizeof value);
  return value;
}
EMU_UNSEEN inline unsigned ballot(unsigned mask, bool vote) {
  int warp = running >> 5;
  unsigned p = flip(), result = 0;
  votes[warp][p][lane()] = vote;
  wait(AT_WARP, mask);
  for (int l = 0; l < 32 && warp * 32 + l < threads; l++)
    if (mask >> l & 1) result |= votes[warp][p][l] << l;
  return result;
}
template <class T, class F>
EMU_UNSEEN T update(T *address, F f) {
  races::atomic(address, sizeof(T));
  T old = *address;
  *address = f(old);
  return old;
}
}  // namespace emu

inline void __syncthreads() { emu::wait(emu::AT_BLOCK); }
inline void __syncwarp(unsigned mask = ~0u) { emu::wait(emu::AT_WARP, mask, true); }
inline void __threadfence() { emu::races::fence(); }
inline void __threadfence_block() {}
#define EMU_T template <class T>
EMU_T T __shfl_sync(unsigned mask, T v, int from, int w = 32) {
  return emu::exchange(mask, v, [=](int l) { return (l & ~(w - 1)) | (from & (w - 1)); });
}
EMU_T T __shfl_xor_sync(unsigned mask, T v, int bits, int w = 32) {
  return emu::exchange(mask, v, [=](int l) { return ((l ^ bits) & ~(w - 1)) == (l & ~(w - 1)) ? l ^ bits : -1; });
}
EMU_T T __shfl_down_sync(unsigned mask, T v, unsigned d, int w = 32) {
  return emu::exchange(mask, v, [=](int l) { return (l & (w - 1)) + (int)d < w ? l + (int)d : -1; });
}
EMU_T T __shfl_up_sync(unsigned mask, T v, unsigned d, int w = 32) {
  return emu::exchange(mask, v, [=](int l) { return (l & (w - 1)) >= (int)d ? l - (int)d : -1; });
}
inline unsigned __ballot_sync(unsigned mask, int p) { return emu::ballot(mask, p); }
inline int __any_sync(unsigned mask, int p) { return emu::ballot(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return emu::ballot(mask, !p) == 0; }

#undef EMU_T

// ---- atomics: no other thread runs between the read and the write ----

#define EMU_ATOMIC(name, expression)                           \
  template <class T, class U>                                  \
  T name(T *p, U v) {                                          \
    return emu::update(p, [=](T o) { return T(expression); }); \
  }
EMU_ATOMIC(atomicAdd, o + T(v))
EMU_ATOMIC(atomicSub, o - T(v))
EMU_ATOMIC(atomicMax, o < T(v) ? T(v) : o)
EMU_ATOMIC(atomicMin, T(v) < o ? T(v) : o)
EMU_ATOMIC(atomicExch, v)
EMU_ATOMIC(atomicOr, o | T(v))
EMU_ATOMIC(atomicAnd, o &T(v))
EMU_ATOMIC(atomicInc, o >= T(v) ? T(0) : o + 1)
#undef EMU_ATOMIC
template <class T, class U, class V>
T atomicCAS(T *p, U expected, V v) {
  return emu::update(p, [=](T o) { return o == T(expected) ? T(v) : o; });
}
