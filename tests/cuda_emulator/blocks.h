// The blocks of a launch, one after the other, and the barriers between the threads of a block.
#pragma once
#include "races.h"

namespace emu {

// Releases the warps whose lanes have all arrived; returns false if there are none.
EMU_UNSEEN inline bool release_warps() {
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
        if (need >> k & 1) {
          fibers[w + k].state = READY;
          fibers[w + k].warp_syncs += fibers[w + k].orders;
        }
      arrived &= ~need;
      moved = true;
    }
  }
  return moved;
}

// Runs one block; returns false after an error, such as a barrier that some threads wait at and others never reach.
EMU_UNSEEN inline bool run_block(size_t number) {
  for (int i = 0; i < threads; i++) prepare(fibers[i]);
  races::begin_block(number);
  for (;;) {
    int done = 0, at_block = 0;
    for (int i = 0; i < threads; i++) {
      running = reverse ? threads - 1 - i : i;
      Fiber &f = fibers[running];
      if (f.state != READY) continue;
      thread_index = f.index;
      races::resume();
      emu_switch(&host, f.top);
      if (error) return false;
    }
    for (int i = 0; i < threads; i++) {
      done += fibers[i].state == DONE;
      at_block += fibers[i].state == AT_BLOCK;
    }
    if (done == threads) return true;
    if (done + at_block == threads) {
      races::block_barrier();
      for (int i = 0; i < threads; i++)
        if (fibers[i].state == AT_BLOCK) fibers[i].state = READY;
    } else if (!release_warps()) {
      error = "some threads wait at a barrier that others never reach";
      return false;
    }
  }
}

EMU_UNSEEN inline int launch(const Launch &l, const std::function<void()> &f) {
  const char *order = getenv("EMU_REVERSE");
  reverse = order && strcmp(order, "0");
  threads = l.block[0] * l.block[1] * l.block[2];
  grid_size = dim3(l.grid[0], l.grid[1], l.grid[2]);
  block_size = dim3(l.block[0], l.block[1], l.block[2]);
  body = &f;
  error = nullptr, fault = nullptr;
  if ((int)fibers.size() < threads) fibers.resize(threads);
  for (unsigned i = 0; i < (unsigned)threads; i++)
    fibers[i].index = {i % l.block[0], i / l.block[0] % l.block[1], i / (l.block[0] * l.block[1])};
  races::begin_launch(l.first_block);
  size_t blocks = size_t(l.grid[0]) * l.grid[1] * l.grid[2], b = 0;
  bool right = true;
  for (; right && b < blocks; b += right) {
    block_index = {unsigned(b % l.grid[0]), unsigned(b / l.grid[0] % l.grid[1]), unsigned(b / l.grid[0] / l.grid[1])};
    right = run_block(b);
  }
  races::end_launch();
  *l.fault = fault;
  const uint3 &at = block_index;
  if (!right) fprintf(stderr, "emulated GPU: block (%u, %u, %u): %s\n", at.x, at.y, at.z, error);
  return !right;
}

}  // namespace emu
