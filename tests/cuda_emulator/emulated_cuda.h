// CUDA C++ on the CPU, for compiler.py, which includes this file before a kernel's source.
//
// The threads of a block are fibers of one OS thread, run in turn until each waits at a barrier or ends; blocks run one
// after another. So __syncthreads, warp shuffles and votes, atomics, static and dynamic shared memory behave as on a
// device. EMU_REVERSE=1 runs the threads of each block from the last to the first: code with a missing barrier gives
// wrong results in one of the two orders. A barrier that some threads never reach is an error of the launch.
#pragma once
#include <math.h>  // declares the float overloads in the global namespace, as CUDA does

#include <cmath>  // all standard headers come before the macros
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
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

#include "arithmetic.h"
#include "bounds.h"
#include "kernels.h"
#include "matrices.h"
#include "warps.h"
