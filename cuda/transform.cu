// A batch of a data set in device memory: gather, crop, flip, subtract the mean, scale.

struct Cut {  // the crop of an image of the batch: index in the data set, offsets, flip
  int index, top, left, flip;
};

// Chooses the images of a batch and their crops, and copies their labels if there are any; one block. The batch begins
// at *cursor, which is then advanced. Three random numbers are drawn for each image, the same as in Transformer.plan.
__global__ void plan(const int n, const int total, unsigned long long *cursor, const unsigned long long *random,
                     const int room_h, const int room_w, const bool crops, const bool flips, void *cuts,
                     const float *labels, Dtype *label_top) {
  const unsigned long long first = *cursor;
  BLOCK_STRIDE(i, n) {
    const int index = (int)((first + i) % total);
    Cut cut = {index, room_h / 2, room_w / 2, 0};
    if (crops) {
      cut.top = (int)__umulhi(philox_u32(random, 3 * i), room_h + 1);
      cut.left = (int)__umulhi(philox_u32(random, 3 * i + 1), room_w + 1);
    }
    if (flips) cut.flip = philox_u32(random, 3 * i + 2) & 1;
    ((Cut *)cuts)[i] = cut;
    if (labels && label_top) label_top[i] = labels[index];
  }
  __syncthreads();
  if (threadIdx.x == 0) *cursor = (first + n) % total;
}

// n elements of the top (N, channels, out_h, out_w). mean_kind: 0 none, 1 one number, 2 one for each channel, 3 an
// image.
__global__ void transform(const int n, const int channels, const int in_h, const int in_w, const int out_h,
                          const int out_w, const void *cuts, const void *images, const int mean_kind, const Dtype *mean,
                          const Dtype factor, Dtype *top) {
  GRID_STRIDE(i, n) {
    const int x = i % out_w, y = i / out_w % out_h, c = i / (out_w * out_h) % channels;
    const Cut cut = ((const Cut *)cuts)[i / (out_w * out_h * channels)];
    const int place = (c * in_h + cut.top + y) * in_w + cut.left + (cut.flip ? out_w - 1 - x : x);
    const Dtype value = ((const unsigned char *)images)[(long long)cut.index * channels * in_h * in_w + place];
    const Dtype shift = mean_kind == 0 ? Dtype(0) : mean[mean_kind == 1 ? 0 : mean_kind == 2 ? c : place];
    top[i] = (value - shift) * factor;
  }
}
