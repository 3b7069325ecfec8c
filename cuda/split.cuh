// The even split of a product: the k steps of all tiles, one tile after another, are divided among the blocks, `share` for
// each, wherever tiles begin and end (minicaffe.cuda.split chooses the share). Each block leaves its part of a divided tile
// in global memory, and the last one to arrive adds the parts, in fixed order, and stores the tile: one launch, no block
// waits for another, and results are the same in every run.

const int FAN = 16;  // parts of a tile that a block adds at a time

struct Split {
  int steps, share;   // steps of a tile, and of a block
  Dtype *parts;       // Sums::SIZE elements, twice for each block; not used if no tile is divided
  unsigned *tickets;  // 8 for each block
  long long before = 0;  // the steps of tiles before the first one, where a kernel has several kinds of tiles
};

// Whether this block has the whole sums of a tile of which it has summed a part: the last of the tile's blocks adds the
// parts of all, FAN at a time, in the order of k. A block has at most two parts, the last one of a tile (of which it has
// not the first step), and the first one of another.
template <class S, bool SUM_ROWS>
__device__ __forceinline__ bool complete(const Split &split, int tile, Sums<S, SUM_ROWS> &sums) {
  const long long begin = split.before + (long long)tile * split.steps;
  const int first = (int)(begin / split.share);  // blocks
  const int count = (int)((begin + split.steps - 1) / split.share) - first + 1;
  int part = blockIdx.x - first;
  unsigned *tickets = split.tickets;
  for (int width = 1; width < count; width *= FAN, tickets += 2 * gridDim.x) {
    const int head = part - part % (width * FAN), end = min(head + width * FAN, count);
    auto place = [&](int p) { return 2 * (first + p) + (p == 0); };
    auto data = [&](int p) { return split.parts + (long long)place(p) * Sums<S, SUM_ROWS>::SIZE; };
    sums.put(data(part));
    if (!last_block(tickets + place(head), (end - head + width - 1) / width)) return false;
    sums.clear();
    for (int p = head; p < end; p += width) sums.add(data(p));
    part = head;
  }
  return true;
}

// This block's share of `count` tiles: work.sum(tile, first step, steps, sums), and work.store(tile, sums) for whole ones.
template <class S, bool SUM_ROWS, class Work>
__device__ __forceinline__ void even_split(const Split &split, int count, Sums<S, SUM_ROWS> &sums, const Work &work) {
  const long long mine = (long long)blockIdx.x * split.share - split.before, begin = max(mine, 0ll);
  const long long end = min(mine + split.share, (long long)count * split.steps);
  if (begin >= end) return;
  int left = (int)(end - begin), tile = (int)(begin / split.steps), step = (int)(begin - (long long)tile * split.steps);
  while (left > 0) {
    const int steps = min(left, split.steps - step);
    work.sum(tile, step, steps, sums);
    if (steps == split.steps || complete(split, tile, sums)) work.store(tile, sums);
    left -= steps, tile++, step = 0;
  }
}
