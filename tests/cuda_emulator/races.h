// Conflicting accesses without an order between them: compiled with -fsanitize=thread (compiler.py, EMU_RACE=1), a kernel
// calls a function of this file before each access to memory. It remembers the last write and the last reads of every word
// of shared and device memory, with their block, thread and the barriers before them.
//
// Threads of a block are ordered by __syncthreads, lanes of a warp by __syncwarp. Blocks are ordered by an atomic operation
// on the same word, if fences stand before it in the one and after it in the other (`last_block` of common.cuh).
#pragma once
#include <unordered_map>

#include "fibers.h"

#ifdef EMU_RACE
#define EMU_PART __attribute__((always_inline, no_sanitize_thread, no_sanitize_undefined)) inline  // of such a function

extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];  // of this module: holds the shared arrays

namespace emu::races {

struct Access {
  enum { ONE, LANES, WARPS, PENDING };  // by one thread, several lanes of its warp, several warps; an unfinished copy
  uint64_t block : 20, epoch : 16, thread : 10, warp : 10, mask : 4, many : 2, others : 1, atomic : 1;
};
struct Cell {  // of 4 bytes
  Access write, read;
};
inline Access now;           // whom the next access is by; block 0 outside of kernels
inline uint64_t first;       // number of the launch's first block; before it, cells are those of earlier launches
inline uint64_t time;        // counts fences and atomic operations
inline bool unwatched;       // while this file uses the standard library, which is instrumented, too
inline Cell *shared_cells;   // of the words from __bss_start on

// ---- order between blocks ----

struct Release {  // an atomic operation after fences: what its block did before
  unsigned epoch, thread;
};
struct Acquisition {
  const void *address;
  unsigned epoch, thread;
  uint64_t time;
};
inline std::unordered_map<const void *, std::unordered_map<unsigned, Release>> releases;  // by address and block
inline std::vector<Acquisition> acquisitions;                                            // of this block

EMU_UNSEEN inline void fence() {
  Fiber &f = fibers[running];
  f.fenced = ++time;
  f.fence_epoch = now.epoch;
  f.unfenced = false;
}
EMU_PART bool all_fenced() {  // what this block wrote before its last barrier, or all that this thread wrote
  const Fiber &f = fibers[running];
  if (!f.fenced || f.unfenced) return false;
  if (f.fence_epoch == now.epoch) return true;
  for (int i = 0; i < threads; i++)
    if (fibers[i].unfenced) return false;
  return true;
}
EMU_PART bool on_device(const void *at) { return at >= EMU_ARENA && at < EMU_ARENA + EMU_ARENA_SIZE; }
EMU_UNSEEN inline void synchronise(const void *address) {
  if (!on_device(address)) return;
  unwatched = true;
  if (all_fenced()) releases[address][now.block] = {now.epoch, now.thread};
  if (releases.count(address)) acquisitions.push_back({address, now.epoch, now.thread, ++time});
  unwatched = false;
}
EMU_PART bool is_released(const Access &before) {
  for (const Acquisition &a : acquisitions) {
    if (a.thread != now.thread && a.epoch == now.epoch) continue;
    if (fibers[running].fenced < a.time && fibers[a.thread].fenced < a.time) continue;
    auto on = releases.find(a.address);
    if (on == releases.end()) continue;
    auto by = on->second.find(before.block);
    if (by == on->second.end()) continue;
    if (before.epoch < by->second.epoch || (before.thread == by->second.thread && !before.many)) return true;
  }
  return false;
}

EMU_UNSEEN inline bool released(const Access &before) {
  unwatched = true;
  bool result = is_released(before);
  unwatched = false;
  return result;
}

// ---- accesses ----

EMU_PART bool ordered(const Access &before) {  // whether it is over for this thread
  if (before.block != now.block) return released(before);
  if (before.many == Access::PENDING) return false;
  if (before.epoch != now.epoch) return true;
  if (before.many == Access::WARPS || before.thread / 32 != now.thread / 32) return false;
  return before.warp != now.warp || (before.many == Access::ONE && before.thread == now.thread);
}
EMU_PART bool conflict(const Access &before, unsigned mask, bool atomic, uint64_t oldest) {
  return before.block >= oldest && before.mask & mask && !(before.atomic && atomic) && !ordered(before);
}

EMU_UNSEEN inline const char *place(unsigned long block, unsigned thread, char *text) {
  const dim3 &g = grid_size, &b = block_size;
  block -= first;
  sprintf(text, "thread (%u, %u, %u) of block (%lu, %lu, %lu)", thread % b.x, thread / b.x % b.y, thread / b.x / b.y,
          block % g.x, block / g.x % g.y, block / g.x / g.y);
  return text;
}
EMU_UNSEEN inline void report(const char *what, const Access &before, const char *then, const void *at, bool shared) {
  static char message[512];
  char former[128], latter[128];
  bool same = before.block == now.block;
  snprintf(message, sizeof message, "a race: %s %s memory by %s, then %s by %s, with no %s between", what,
           shared ? "of shared" : "of device", place(before.block, before.thread, former), then,
           place(now.block, now.thread, latter),
           before.many == Access::PENDING ? "wait for the copy" : same ? "barrier" : "order of the blocks");
  fault = shared ? nullptr : at;
  require(false, message);
}

EMU_PART void note_read(Access &read, unsigned mask, uint64_t oldest) {
  Access next = now;
  next.mask = mask;
  if (read.block >= oldest && read.block != now.block) next.others = 1;
  if (read.block == now.block) {
    next.others = read.others;
    bool same_warp = read.thread / 32 == now.thread / 32;
    if (read.epoch == now.epoch && !(same_warp && read.many != Access::WARPS && read.warp != now.warp)) {
      next.mask |= read.mask;
      next.many = !same_warp || read.many == Access::WARPS ? Access::WARPS
                  : read.thread != now.thread              ? Access::LANES
                                                           : read.many;
    }
  }
  read = next;
}

EMU_PART void check(const char *at, unsigned mask, bool writes, bool atomic, Cell &cell, bool shared) {
  uint64_t oldest = shared ? now.block : first;
  if (conflict(cell.write, mask, atomic, oldest))
    report(cell.write.atomic ? "an atomic operation" : "a write", cell.write,
           atomic ? "an atomic operation" : writes ? "a write" : "a read", at, shared);
  if (!writes) return note_read(cell.read, mask, oldest);
  if (conflict(cell.read, mask, false, oldest))
    report("a read", cell.read, atomic ? "an atomic operation" : "a write", at, shared);
  if (!shared && cell.read.block >= first && cell.read.others && acquisitions.empty())
    report("reads by several blocks, the last", cell.read, "a write", at, shared);
  cell.write = now;
  cell.write.mask = mask;
  cell.write.atomic = atomic;
  cell.read = Access{};
  if (!shared) fibers[running].unfenced |= !atomic;
}

EMU_UNSEEN inline void access(const void *address, size_t size, bool writes, bool atomic = false) {
  const char *at = (const char *)address, *end = at + size;
  bool shared = at >= __bss_start && at < _end, device = on_device(at);
  if (!now.block || unwatched || (!shared && !device)) return;
  const char *origin = shared ? __bss_start : EMU_ARENA;
  Cell *cells = shared ? shared_cells : (Cell *)EMU_SHADOW;
  while (at < end) {
    size_t word = (at - origin) / 4, start = (at - origin) % 4, bytes = 4 - start;
    if (bytes > size_t(end - at)) bytes = end - at;
    check(at, ((1u << bytes) - 1) << start, writes, atomic, cells[word], shared);
    at += bytes;
  }
}

// ---- what fibers.h and the other headers tell ----

EMU_UNSEEN inline void begin_launch(uint64_t first_block) {
  if (!shared_cells) shared_cells = (Cell *)calloc((_end - __bss_start) / 4 + 1, sizeof(Cell));
  first = first_block;
  releases.clear();
}
EMU_UNSEEN inline void end_launch() { now = Access{}; }
EMU_UNSEEN inline void begin_block(uint64_t index) {
  now = Access{};
  now.block = first + index < EMU_MOST_BLOCKS ? first + index : 0;  // launches of more blocks are not watched
  acquisitions.clear();
  for (int i = 0; i < threads; i++) fibers[i].fenced = fibers[i].unfenced = fibers[i].warp_syncs = 0;
}
EMU_UNSEEN inline void resume() {
  now.thread = running;
  now.warp = fibers[running].warp_syncs;
}
EMU_UNSEEN inline void block_barrier() { now.epoch++; }
// The words that an asynchronous copy writes from now on, or has written now. No thread may touch them in between.
EMU_UNSEEN inline void copy(const void *target, size_t size, bool pending) {
  require(target >= __bss_start && target < _end, "copy_async to an address that is not in shared memory");
  Cell *cells = shared_cells + ((const char *)target - __bss_start) / 4;
  size_t words = now.block ? size / 4 : 0;
  for (size_t i = 0; i < words && !pending; i++) cells[i].write.many = Access::ONE;
  access(target, size, true);
  for (size_t i = 0; i < words && pending; i++) cells[i].write.many = Access::PENDING;
}
EMU_UNSEEN inline void atomic(const void *address, size_t size) {
  access(address, size, true, true);
  synchronise(address);
}
inline void read(const void *address, size_t size) { access(address, size, false); }

}  // namespace emu::races

// ---- the functions that -fsanitize=thread calls ----

#define EMU_HOOK extern "C" __attribute__((visibility("hidden"), used)) EMU_UNSEEN
#define EMU_HOOKS(size)                                                                                    \
  EMU_HOOK void __tsan_read##size(void *p) { emu::races::access(p, size, false); }                         \
  EMU_HOOK void __tsan_write##size(void *p) { emu::races::access(p, size, true); }                         \
  EMU_HOOK void __tsan_unaligned_read##size(void *p) { emu::races::access(p, size, false); }               \
  EMU_HOOK void __tsan_unaligned_write##size(void *p) { emu::races::access(p, size, true); }               \
  EMU_HOOK void __tsan_volatile_read##size(void *p) { emu::races::access(p, size, false); }                \
  EMU_HOOK void __tsan_volatile_write##size(void *p) { emu::races::access(p, size, true); }
EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)
EMU_HOOK void __tsan_read_range(void *p, long size) { emu::races::access(p, size, false); }
EMU_HOOK void __tsan_write_range(void *p, long size) { emu::races::access(p, size, true); }
EMU_HOOK void __tsan_init() {}
EMU_HOOK void __tsan_func_entry(void *) {}
EMU_HOOK void __tsan_func_exit() {}
EMU_HOOK void __tsan_vptr_update(void **, void *) {}
EMU_HOOK void __tsan_vptr_read(void **) {}

#else

namespace emu::races {
inline void fence() {}
inline void begin_launch(uint64_t) {}
inline void end_launch() {}
inline void begin_block(uint64_t) {}
inline void resume() {}
inline void block_barrier() {}
inline void atomic(const void *, size_t) {}
inline void read(const void *, size_t) {}
inline void copy(const void *, size_t, bool) {}
}  // namespace emu::races

#endif
