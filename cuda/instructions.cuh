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
