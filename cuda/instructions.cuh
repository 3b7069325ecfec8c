// Instructions for which CUDA C++ has no operators: asynchronous copies to shared memory, fragments of matrices, and
// products of fragments by tensor cores. The emulated driver has functions of the same names, which follow the
// documented layouts of the lanes (PTX ISA 8.x, sections "cp.async", "ldmatrix" and "mma").

#ifndef __CUDA_EMU__

#if __CUDA_ARCH__ >= 800
#define ASYNC_COPIES
#endif

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
  return (unsigned)__cvta_generic_to_shared(pointer);
}

// Copies BYTES (4, 8 or 16; both addresses are multiples of it) from global to shared memory without registers, or
// writes zeros there if the source is not `valid`: it is not read then. Done after `copies_wait`; before sm_80 at once.
template <int BYTES>
__device__ __forceinline__ void copy_async(void *shared, const void *global, bool valid = true) {
#ifdef ASYNC_COPIES
  const int bytes = valid ? BYTES : 0;
  if (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes));
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(BYTES),
                 "r"(bytes));
#else
#pragma unroll
  for (int i = 0; i < BYTES / 4; i++) ((unsigned *)shared)[i] = valid ? ((const unsigned *)global)[i] : 0u;
#endif
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void copies_commit() {
#ifdef ASYNC_COPIES
  asm volatile("cp.async.commit_group;");
#endif
}

// Waits until at most GROUPS of this thread's last groups are unfinished. Other threads see the data after a barrier.
template <int GROUPS>
__device__ __forceinline__ void copies_wait() {
#ifdef ASYNC_COPIES
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS));
#endif
}

#if __CUDA_ARCH__ >= 800

// Four 8 x 8 matrices of 16-bit elements (or 8 x 4 of 32 bits); lane l gives the address of row l % 8 of matrix l / 8,
// and receives in r[i] row lane / 4, the pair of elements lane % 4, of matrix i. `transposed` exchanges rows and columns
// (of 16-bit elements).
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ __forceinline__ void load_matrices_transposed(unsigned (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

// sums (16 x 8, float) += a (16 x 8, TF32) b (8 x 8, TF32).
__device__ __forceinline__ void multiply_tf32(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sums (16 x 8, float) += a (16 x 16, bfloat16) b (16 x 8, bfloat16).
__device__ __forceinline__ void multiply_bf16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL  // sm_90a

// sums (64 x N, float) += a (64 x 16, bfloat16) b (16 x N), for the four warps of a group together. Sums of a thread:
// [n / 8][] of rows w * 16 + l / 4 (the first two) and 8 more, columns n + l % 4 * 2 and one more, for warp w and lane l.
// They are there after `groups_wait`. Before the first one of a step `groups_begin`, after its last one `groups_commit`.
__device__ __forceinline__ void multiply_group(float (&sums)[16][4], unsigned long long a, unsigned long long b) {
  float *s = sums[0];
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
        "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
        "%62, %63"
      "}, %64, %65, 1, 1, 1, 0, 0;"
      : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7]), "+f"(s[8]),
        "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15]), "+f"(s[16]),
        "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23]), "+f"(s[24]),
        "+f"(s[25]), "+f"(s[26]), "+f"(s[27]), "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31]), "+f"(s[32]),
        "+f"(s[33]), "+f"(s[34]), "+f"(s[35]), "+f"(s[36]), "+f"(s[37]), "+f"(s[38]), "+f"(s[39]), "+f"(s[40]),
        "+f"(s[41]), "+f"(s[42]), "+f"(s[43]), "+f"(s[44]), "+f"(s[45]), "+f"(s[46]), "+f"(s[47]), "+f"(s[48]),
        "+f"(s[49]), "+f"(s[50]), "+f"(s[51]), "+f"(s[52]), "+f"(s[53]), "+f"(s[54]), "+f"(s[55]), "+f"(s[56]),
        "+f"(s[57]), "+f"(s[58]), "+f"(s[59]), "+f"(s[60]), "+f"(s[61]), "+f"(s[62]), "+f"(s[63])
      : "l"(a), "l"(b));
}
__device__ __forceinline__ void multiply_group(float (&sums)[8][4], unsigned long long a, unsigned long long b) {
  float *s = sums[0];
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, 1, 1, 1, 0, 0;"
      : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7]), "+f"(s[8]),
        "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15]), "+f"(s[16]),
        "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23]), "+f"(s[24]),
        "+f"(s[25]), "+f"(s[26]), "+f"(s[27]), "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31])
      : "l"(a), "l"(b));
}
__device__ __forceinline__ void multiply_group(float (&sums)[4][4], unsigned long long a, unsigned long long b) {
  float *s = sums[0];
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
      "}, %16, %17, 1, 1, 1, 0, 0;"
      : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7]), "+f"(s[8]),
        "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15])
      : "l"(a), "l"(b));
}
__device__ __forceinline__ void groups_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void groups_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void groups_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// Lets `multiply_group` read what this thread has written to shared memory; a barrier follows.
__device__ __forceinline__ void groups_may_read() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

#endif

// Rounded to TF32, 10 bits of fraction, to nearest with ties away from zero.
__device__ __forceinline__ float rounded_tf32(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

// Two bfloat16 in 32 bits, the first in the lower half, rounded to nearest with ties to even.
__device__ __forceinline__ unsigned pair_bf16(float first, float second) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
}

#endif  // __CUDA_ARCH__ >= 800
#endif  // __CUDA_EMU__

__device__ __forceinline__ float from_bf16(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

#if defined(__CUDA_EMU__) || __CUDA_ARCH__ >= 900
// A tile in shared memory, for `multiply_group`: rows of 128 bytes along k, whose chunks of 16 bytes are exchanged by an
// exclusive or of their number and that of the row (modulo 8); it begins at a multiple of 1024 bytes. 2 more: 32 bytes
// further along k. PTX ISA, "matrix descriptor": address / 16; distance of 8 rows / 16 from bit 32 on; 128-byte swizzle.
__device__ __forceinline__ unsigned long long group_tile(const void *tile) {
  return (unsigned long long)(shared_address(tile) >> 4 & 0x3fff) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
#endif
