// d = factor * (sigmoid(x) - mask), n elements (images, channels, places); counts, the places of the masks, may be null.
__global__ void steps(const int n, const int images, const int channels, const int places, const Dtype scale,
                      const Dtype *x, const Dtype *masks, const Dtype *counts, Dtype *d) {
  GRID_STRIDE(i, n) {
    Dtype factor = scale;
    if (counts && masks[i] > Dtype(0.5)) {
      Dtype sum = 0;
      for (int image = 0; image < images; image++) sum += counts[image * channels + i / places % channels];
      factor = scale * (2 - sum / max(Dtype(images) * places - sum, Dtype(1)));
    }
    d[i] = factor * (Dtype(0.5) * tanh(Dtype(0.5) * x[i]) + Dtype(0.5) - masks[i]);
  }
}
