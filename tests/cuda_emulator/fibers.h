// The threads of a block as fibers of one OS thread, and the barriers between them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "launch.h"

namespace emu {

enum State { READY, AT_BLOCK, AT_WARP, DONE };
constexpr size_t STACK = 64 << 10;
struct PendingCopy {  // by copy_async (matrices.h): not done before its group is waited for
  void *shared;
  const void *global;  // null: zeros
  int bytes;
  unsigned group;
};
struct Fiber {
  void *top;  // the saved stack pointer
  char *stack = nullptr;
  State state;
  unsigned parity, mask;  // index of the next exchange buffer; the lanes that a warp barrier waits for
  unsigned group;         // number of the asynchronous copies' current group
  std::vector<PendingCopy> copies;
  uint3 index;
};

inline uint3 thread_index, block_index;
inline dim3 block_size, grid_size;
inline std::vector<Fiber> fibers;
inline int running, threads;
inline const std::function<void()> *body;
inline void *host;
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
  f.parity = f.group = 0;
  f.copies.clear();
}
inline void wait(State state, unsigned mask = ~0u) {
  Fiber &f = fibers[running];
  f.state = state;
  f.mask = mask;
  leave();
  thread_index = f.index;
}

// Ends the launch with an error, unless a condition holds; called by a thread of the block.
inline void require(bool condition, const char *otherwise) {
  if (condition) return;
  error = otherwise;
  leave();
  __builtin_unreachable();
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

// Runs one block; returns false after an error, such as a barrier that some threads wait at and others never reach.
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
      if (error) return false;
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

inline int launch(const Launch &l, const std::function<void()> &f) {
  const char *order = getenv("EMU_REVERSE");
  reverse = order && strcmp(order, "0");
  threads = l.block[0] * l.block[1] * l.block[2];
  grid_size = dim3(l.grid[0], l.grid[1], l.grid[2]);
  block_size = dim3(l.block[0], l.block[1], l.block[2]);
  body = &f;
  error = nullptr;
  if ((int)fibers.size() < threads) fibers.resize(threads);
  for (unsigned i = 0; i < (unsigned)threads; i++)
    fibers[i].index = {i % l.block[0], i / l.block[0] % l.block[1], i / (l.block[0] * l.block[1])};
  for (unsigned z = 0; z < l.grid[2]; z++)
    for (unsigned y = 0; y < l.grid[1]; y++)
      for (unsigned x = 0; x < l.grid[0]; x++) {
        block_index = {x, y, z};
        if (run_block()) continue;
        fprintf(stderr, "emulated GPU: block (%u, %u, %u): %s\n", x, y, z, error);
        return 1;
      }
  return 0;
}

}  // namespace emu

#define threadIdx emu::thread_index
#define blockIdx emu::block_index
#define blockDim emu::block_size
#define gridDim emu::grid_size
