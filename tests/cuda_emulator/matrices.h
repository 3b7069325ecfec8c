// The functions of cuda/instructions.cuh: asynchronous copies, fragments of matrices, and products by tensor cores, by the
// layouts that the PTX ISA documents for "cp.async", "ldmatrix" and "mma".
#pragma once
#include "warps.h"

#define ASYNC_COPIES

namespace emu {

EMU_UNSEEN inline void arrive(const PendingCopy &copy) {
  races::copy(copy.shared, copy.bytes, false);
  if (copy.global) races::read(copy.global, copy.bytes);
  if (copy.global)
    memcpy(copy.shared, copy.global, copy.bytes);
  else
    memset(copy.shared, 0, copy.bytes);
}

// What the lanes of a warp give to each other for one instruction.
struct Fragments {
  unsigned a[32][4], b[32][2];
};
inline Fragments fragments[32][2];
inline const void *rows[32][2][32];

// The fragments of all lanes, after each lane of the warp has given its own.
EMU_UNSEEN inline const Fragments &gather(const unsigned (&a)[4], const unsigned (&b)[2]) {
  Fragments &all = fragments[running >> 5][flip()];
  memcpy(all.a[lane()], a, sizeof a);
  memcpy(all.b[lane()], b, sizeof b);
  wait(AT_WARP);
  return all;
}
// The 32 rows of 16 bytes whose addresses the lanes give.
EMU_UNSEEN inline const void *const *gather_rows(const void *row) {
  require((uintptr_t)row % 16 == 0, "load_matrices of a row that is not aligned to 16 bytes");
  const void **all = rows[running >> 5][flip()];
  all[lane()] = row;
  wait(AT_WARP);
  return all;
}

inline float as_tf32(unsigned bits) { return emu_bits<float>(bits & 0xffffe000u); }  // the lower bits are ignored
inline float as_bf16(unsigned pair, int i) { return emu_bits<float>(i ? pair & 0xffff0000u : pair << 16); }

// sums (16 x 8) += a (16 x K) b (K x 8), with elements A(lane's fragments, row, k) and B(.., k, column). A lane has sums of
// rows lane / 4 and lane / 4 + 8, columns 2 * (lane % 4) and the next one.
template <int K, class A, class B>
void multiply_fragments(float (&sums)[4], const A &a, const B &b) {
  for (int e = 0; e < 4; e++) {
    int row = lane() / 4 + e / 2 * 8, column = lane() % 4 * 2 + e % 2;
    for (int k = 0; k < K; k++) sums[e] += a(row, k) * b(k, column);
  }
}

}  // namespace emu

// The data arrive when the copy's group is waited for by the same thread; until then the target contains nan.
template <int BYTES>
EMU_UNSEEN inline void copy_async(void *shared, const void *global, bool valid = true) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  emu::require((uintptr_t)shared % BYTES == 0, "copy_async to an address that is not a multiple of its size");
  emu::require((!valid || (uintptr_t)global % BYTES == 0), "copy_async from an address that is not a multiple of its size");
  emu::races::copy(shared, BYTES, true);
  memset(shared, 0xFF, BYTES);
  emu::Fiber &f = emu::fibers[emu::running];
  f.copies.push_back({shared, valid ? global : nullptr, BYTES, f.group});
}
inline void copies_commit() { emu::fibers[emu::running].group++; }
template <int GROUPS>
inline void copies_wait() {
  emu::Fiber &f = emu::fibers[emu::running];
  size_t done = 0;
  while (done < f.copies.size() && f.copies[done].group + GROUPS < f.group) emu::arrive(f.copies[done++]);
  f.copies.erase(f.copies.begin(), f.copies.begin() + done);
}

inline void load_matrices(unsigned (&r)[4], const void *row) {
  const void *const *rows = emu::gather_rows(row);
  for (int i = 0; i < 4; i++) r[i] = ((const unsigned *)rows[i * 8 + emu::lane() / 4])[emu::lane() % 4];
}
inline void load_matrices_transposed(unsigned (&r)[4], const void *row) {
  const void *const *rows = emu::gather_rows(row);
  unsigned column = emu::lane() / 4, first = emu::lane() % 4 * 2;
  for (int i = 0; i < 4; i++) {
    const unsigned short *upper = (const unsigned short *)rows[i * 8 + first],
                         *lower = (const unsigned short *)rows[i * 8 + first + 1];
    r[i] = upper[column] | unsigned(lower[column]) << 16;
  }
}

// a[0], a[1]: rows g and g + 8 of column t; a[2], a[3]: of column t + 4, for g = lane / 4, t = lane % 4. b[0], b[1]: rows t
// and t + 4 of column g.
inline void multiply_tf32(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const emu::Fragments &all = emu::gather(a, b);
  emu::multiply_fragments<8>(
      sums, [&](int row, int k) { return emu::as_tf32(all.a[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]); },
      [&](int k, int column) { return emu::as_tf32(all.b[column * 4 + k % 4][k / 4]); });
}

// As above, with pairs of neighbours along k in place of elements.
inline void multiply_bf16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const emu::Fragments &all = emu::gather(a, b);
  emu::multiply_fragments<16>(
      sums,
      [&](int row, int k) { return emu::as_bf16(all.a[row % 8 * 4 + k / 2 % 4][row / 8 + k / 8 * 2], k % 2); },
      [&](int k, int column) { return emu::as_bf16(all.b[column * 4 + k / 2 % 4][k / 8], k % 2); });
}

inline float rounded_tf32(float value) {
  return value == value ? emu_bits<float>((emu_bits<unsigned>(value) + 0x1000u) & 0xffffe000u)
                        : emu_bits<float>(0x7fffffffu);
}
inline unsigned pair_bf16(float first, float second) {
  auto rounded = [](float value) {
    unsigned bits = emu_bits<unsigned>(value);
    return value == value ? (bits + 0x7fffu + (bits >> 16 & 1)) >> 16 : 0x7fffu;
  };
  return rounded(first) | rounded(second) << 16;
}

// ---- products of four warps, by the layout that the PTX ISA documents for "wgmma" ----

namespace emu {

struct PendingProduct {
  float *sums;
  int columns;
  unsigned long long a, b;
};
inline std::vector<PendingProduct> products[1024];  // of each thread, computed when it waits
inline uintptr_t shared_place;                       // an address in shared memory, of which a tile has 18 bits

// Element (row, k) of a tile with 128 bytes of k in a row; the number of the row of 128 bytes is taken from the address.
inline float group_element(unsigned long long tile, int row, int k) {
  require(tile >> 62 == 1 && (tile >> 49 & 7) == 0, "a tile of multiply_group without 128-byte swizzle");
  intptr_t distance = ((tile & 0x3fff) << 4) - (shared_place & 0x3ffff);
  uintptr_t start = shared_place + (distance << 46 >> 46);  // the nearest one with these bits
  uintptr_t at = start + row / 8 * ((tile >> 32 & 0x3fff) << 4) + row % 8 * 128 + k * 2;
  return as_bf16(*(const unsigned short *)(at ^ (at >> 7 & 7) << 4), 0);
}

}  // namespace emu

EMU_UNSEEN inline unsigned shared_address(const void *pointer) {
  emu::shared_place = (uintptr_t)pointer;
  return (unsigned)emu::shared_place;
}
template <int N>
void multiply_group(float (&sums)[N][4], unsigned long long a, unsigned long long b) {
  emu::products[emu::running].push_back({sums[0], N * 8, a, b});
}
inline void groups_begin() {}
inline void groups_commit() {}
inline void groups_may_read() {}
inline void groups_wait() {
  for (const emu::PendingProduct &p : emu::products[emu::running])
    for (int i = 0; i < p.columns / 8 * 4; i++) {
      int row = emu::running / 32 * 16 + emu::lane() / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + emu::lane() % 4 * 2 + i % 2;
      for (int k = 0; k < 16; k++) p.sums[i] += emu::group_element(p.a, row, k) * emu::group_element(p.b, column, k);
    }
  emu::products[emu::running].clear();
}
