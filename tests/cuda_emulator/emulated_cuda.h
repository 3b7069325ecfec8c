// CUDA C++ on the CPU, for compiler.py, which includes this file before a kernel's source.
//
// The threads of a block are fibers of one OS thread, run in turn until each waits at a barrier or ends; blocks run one
// after another. So __syncthreads, warp shuffles and votes, atomics, static and dynamic shared memory behave as on a
// device. EMU_REVERSE=1 runs the threads of each block from the last to the first: code with a missing barrier gives
// wrong results in one of the two orders. A barrier that some threads never reach is an error of the launch.
#pragma once
#include <math.h>  // declares the float overloads in the global namespace, as CUDA does

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __CUDA_EMU__ 1
#define __CUDA_ARCH__ 900
#define __global__ static
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define warpSize 32

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#define EMU_VECTORS(T, N)                                                    \
  struct alignas(2 * sizeof(T)) N##2 { T x, y; };                            \
  struct N##3 { T x, y, z; };                                                \
  struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) N##4 { T x, y, z, w; }; \
  inline N##2 make_##N##2(T x, T y) { return {x, y}; }                       \
  inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }               \
  inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(float, float)
EMU_VECTORS(double, double)
EMU_VECTORS(int, int)
EMU_VECTORS(unsigned, uint)
EMU_VECTORS(unsigned char, uchar)
#undef EMU_VECTORS

namespace emu {

// ---- fibers ----

enum State { READY, AT_BLOCK, AT_WARP, DONE };
constexpr size_t STACK = 64 << 10;
struct Fiber {
  void *top;  // the saved stack pointer
  char *stack = nullptr;
  State state;
  unsigned parity, mask;  // index of the next exchange buffer; the lanes that a warp barrier waits for
  uint3 index;
};

inline uint3 thread_index, block_index;
inline dim3 block_size, grid_size;
inline std::vector<Fiber> fibers;
inline int running, threads;
inline const std::function<void()> *body;
inline void *host;
inline uint64_t exchanged[32][2][32];
inline unsigned votes[32][2][32];
inline const char *error;
inline bool reverse;

extern "C" void emu_switch(void **save, void *load);  // saves and loads callee-saved registers and stack pointer
asm(R"(
.weak emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

inline void leave() { emu_switch(&fibers[running].top, host); }
inline void entry() {
  (*body)();
  fibers[running].state = DONE;
  leave();
  __builtin_unreachable();
}
inline void prepare(Fiber &f) {
  if (!f.stack) f.stack = (char *)aligned_alloc(64, STACK);
  void **s = (void **)(f.stack + STACK);
  *--s = nullptr;  // entry's return address: as after a call, the stack is 8 bytes off a multiple of 16
  *--s = (void *)entry;
  for (int i = 0; i < 6; i++) *--s = nullptr;
  f.top = s;
  f.state = READY;
  f.parity = 0;
}
inline void wait(State state, unsigned mask = ~0u) {
  Fiber &f = fibers[running];
  f.state = state;
  f.mask = mask;
  leave();
  thread_index = f.index;
}

// Releases the warps whose lanes have all arrived; returns false if there are none.
inline bool release_warps() {
  bool moved = false;
  for (int w = 0; w < threads; w += 32) {
    int n = threads - w < 32 ? threads - w : 32;
    unsigned arrived = 0, live = 0;
    for (int l = 0; l < n; l++) {
      arrived |= unsigned(fibers[w + l].state == AT_WARP) << l;
      live |= unsigned(fibers[w + l].state != DONE) << l;
    }
    for (int l = 0; l < n; l++) {
      if (!(arrived >> l & 1)) continue;
      unsigned need = fibers[w + l].mask & live;
      if ((arrived & need) != need) continue;
      for (int k = 0; k < n; k++)
        if (need >> k & 1) fibers[w + k].state = READY;
      arrived &= ~need;
      moved = true;
    }
  }
  return moved;
}

// Runs one block; returns false if threads wait at a barrier that other threads never reach.
inline bool run_block() {
  for (int i = 0; i < threads; i++) prepare(fibers[i]);
  for (;;) {
    int done = 0, at_block = 0;
    for (int i = 0; i < threads; i++) {
      running = reverse ? threads - 1 - i : i;
      Fiber &f = fibers[running];
      if (f.state != READY) continue;
      thread_index = f.index;
      emu_switch(&host, f.top);
    }
    for (int i = 0; i < threads; i++) {
      done += fibers[i].state == DONE;
      at_block += fibers[i].state == AT_BLOCK;
    }
    if (done == threads) return true;
    if (done + at_block == threads) {
      for (int i = 0; i < threads; i++)
        if (fibers[i].state == AT_BLOCK) fibers[i].state = READY;
    } else if (!release_warps()) {
      error = "some threads wait at a barrier that others never reach";
      return false;
    }
  }
}

inline int launch(const unsigned *grid, const unsigned *block, const std::function<void()> &f) {
  const char *order = getenv("EMU_REVERSE");
  reverse = order && strcmp(order, "0");
  threads = block[0] * block[1] * block[2];
  grid_size = dim3(grid[0], grid[1], grid[2]);
  block_size = dim3(block[0], block[1], block[2]);
  body = &f;
  if ((int)fibers.size() < threads) fibers.resize(threads);
  for (unsigned i = 0; i < (unsigned)threads; i++)
    fibers[i].index = {i % block[0], i / block[0] % block[1], i / (block[0] * block[1])};
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0]; x++) {
        block_index = {x, y, z};
        if (run_block()) continue;
        fprintf(stderr, "emulated GPU: block (%u, %u, %u): %s\n", x, y, z, error);
        return 1;
      }
  return 0;
}

// Unpacks a kernel's arguments from cuLaunchKernel's buffer, and launches it.
template <class... A>
int launch_packed(void (*kernel)(A...), const unsigned *grid, const unsigned *block, const char *buffer) {
  size_t offset = 0;
  std::tuple<A...> arguments;
  auto take = [&](auto &a) {
    size_t alignment = alignof(std::decay_t<decltype(a)>);
    offset = (offset + alignment - 1) / alignment * alignment;
    memcpy((void *)&a, buffer + offset, sizeof a);
    offset += sizeof a;
  };
  std::apply([&](auto &...a) { (take(a), ...); }, arguments);
  return launch(grid, block, [&] { std::apply(kernel, arguments); });
}

// ---- warps ----

inline unsigned lane() { return running & 31; }
inline unsigned flip() {
  unsigned p = fibers[running].parity;
  fibers[running].parity ^= 1;
  return p;
}
template <class T, class F>
T exchange(unsigned mask, T value, F source) {  // a negative source keeps the lane's own value
  static_assert(sizeof(T) <= 8);
  int warp = running >> 5;
  unsigned p = flip();
  memcpy(&exchanged[warp][p][lane()], &value, sizeof value);
  wait(AT_WARP, mask);
  int from = source(int(lane()));
  if (from >= 0) memcpy(&value, &exchanged[warp][p][from & 31], sizeof value);
  return value;
}
inline unsigned ballot(unsigned mask, bool vote) {
  int warp = running >> 5;
  unsigned p = flip(), result = 0;
  votes[warp][p][lane()] = vote;
  wait(AT_WARP, mask);
  for (int l = 0; l < 32 && warp * 32 + l < threads; l++)
    if (mask >> l & 1) result |= votes[warp][p][l] << l;
  return result;
}
template <class T, class F>
T update(T *address, F f) {
  T old = *address;
  *address = f(old);
  return old;
}
template <class T, class U>
using Common = std::common_type_t<T, U>;

}  // namespace emu

#define threadIdx emu::thread_index
#define blockIdx emu::block_index
#define blockDim emu::block_size
#define gridDim emu::grid_size

inline void __syncthreads() { emu::wait(emu::AT_BLOCK); }
inline void __syncwarp(unsigned mask = ~0u) { emu::wait(emu::AT_WARP, mask); }
inline void __threadfence() {}
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

// ---- arithmetic ----

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
EMU_T T __ldg(const T *p) { return *p; }
EMU_T T __ldcs(const T *p) { return *p; }
EMU_T void __stcs(T *p, T v) { *p = v; }
#undef EMU_T

// ---- cuda/instructions.cuh ----

template <int BYTES>
inline void copy_async(void *shared, const void *global, bool valid = true) {
  if (valid)
    memcpy(shared, global, BYTES);
  else
    memset(shared, 0, BYTES);
}
inline void copies_commit() {}
template <int GROUPS>
inline void copies_wait() {}

#define EMU_KERNEL(name)                                                                                            \
  extern "C" __attribute__((visibility("default"))) int name##__launch(const unsigned *grid, const unsigned *block, \
                                                                       const char *arguments) {                     \
    return emu::launch_packed(name, grid, block, arguments);                                                        \
  }
