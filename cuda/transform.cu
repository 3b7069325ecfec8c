// A batch of a data set in device memory: gather, crop, flip, subtract the mean, scale.

struct Cut {  // the crop of an image of the batch: index in the data set, offsets, flip
  int index, top, left, flip;
};

// Makes the top (count, channels, out_h, out_w), and the labels' if there is one, from the images that begin at *cursor,
// which is then advanced. Three random numbers are drawn for each image, the same as in Transformer.plan. `parts` blocks
// share the rows of an image; a warp writes a row. mean_kind: 0 none, 1 one number, 2 one for each channel, 3 an image.
__global__ void batch(const int count, const int total, unsigned long long *cursor, unsigned *ticket,
                      unsigned long long *random, const int room_h, const int room_w, const bool crops, const bool flips,
                      const float *__restrict__ labels, Dtype *__restrict__ label_top, const int parts,
                      const int channels, const int in_h, const int in_w, const int out_h, const int out_w,
                      const unsigned char *__restrict__ images, const int mean_kind, const Dtype *__restrict__ mean,
                      const Dtype factor, Dtype *__restrict__ top) {
  __shared__ Cut cut;
  const int image = blockIdx.x / parts, part = blockIdx.x % parts;
  const unsigned long long first = *cursor;
  if (threadIdx.x == 0) {
    cut = {(int)((first + image) % total), room_h / 2, room_w / 2, 0};
    if (crops) {
      cut.top = (int)__umulhi(philox_u32(random, 3 * image), room_h + 1);
      cut.left = (int)__umulhi(philox_u32(random, 3 * image + 1), room_w + 1);
    }
    if (flips) cut.flip = philox_u32(random, 3 * image + 2) & 1;
    if (labels && label_top && part == 0) label_top[image] = labels[cut.index];
  }
  __syncthreads();
  const int rows = channels * out_h, warps = blockDim.x / 32, step = cut.flip ? -1 : 1;
  const unsigned char *picture = images + (long long)cut.index * channels * in_h * in_w;
  Dtype *out = top + (long long)image * rows * out_w;
  for (int row = part * warps + threadIdx.x / 32; row < rows; row += parts * warps) {
    const int c = row / out_h, y = row - c * out_h;
    const int begin = (c * in_h + cut.top + y) * in_w + cut.left + (cut.flip ? out_w - 1 : 0);
    const Dtype shift = mean_kind == 1 ? mean[0] : mean_kind == 2 ? mean[c] : Dtype(0);
    for (int x = threadIdx.x % 32; x < out_w; x += 32) {
      const int place = begin + step * x;
      out[row * out_w + x] = (picture[place] - (mean_kind == 3 ? mean[place] : shift)) * factor;
    }
  }
  if (last_block(ticket, gridDim.x) && threadIdx.x == 0) {
    *cursor = (first + count) % total;
    if (random) drawn(random, 3 * count);
  }
}
