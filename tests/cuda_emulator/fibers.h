// The threads of a block as fibers of one OS thread.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "launch.h"

#ifdef EMU_RACE  // the emulator's own accesses are not instrumented; inlined, they would be
#define EMU_UNSEEN __attribute__((noinline, no_sanitize_thread, no_sanitize_undefined))
#else
#define EMU_UNSEEN
#endif

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
  bool orders;                           // whether the warp barrier it waits at orders accesses to memory
  unsigned warp_syncs, fence_epoch;      // for races.h: ordering warp barriers since the block began; the fence's block epoch
  uint64_t fenced;                       // when it last called __threadfence, 0 if never
  bool unfenced;                         // whether it has written device memory since
  uint3 index;
};

inline uint3 thread_index, block_index;
inline dim3 block_size, grid_size;
inline std::vector<Fiber> fibers;
inline int running, threads;
inline const std::function<void()> *body;
inline void *host;
inline const char *error;
inline const void *fault;  // the address that an error is about
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
EMU_UNSEEN inline void wait(State state, unsigned mask = ~0u, bool orders = false) {
  Fiber &f = fibers[running];
  f.orders = orders;
  f.state = state;
  f.mask = mask;
  leave();
  thread_index = f.index;
}

// Ends the launch with an error, unless a condition holds; called by a thread of the block.
EMU_UNSEEN inline void require(bool condition, const char *otherwise) {
  if (condition) return;
  error = otherwise;
  leave();
  __builtin_unreachable();
}

}  // namespace emu

#define threadIdx emu::thread_index
#define blockIdx emu::block_index
#define blockDim emu::block_size
#define gridDim emu::grid_size
