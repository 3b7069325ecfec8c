// L1Loss, LpqLoss: one thread for each place, of (outer, channels, inner); see minicaffe/layers/shared/masked_loss.py. b
// may be null: then d is a.

struct Place {
  const int channels, inner;
  const Dtype p, shift_p, scale, plateau;
  const bool whole, masked;
  const Dtype *a, *b;
  long long start;

  // |d| of channel k with shift_p; the sign of d, 0 for what has no gradient.
  __device__ Dtype base(int k, Dtype slope_at_0, Dtype &sign, bool &known) const {
    const long long at = start + (long long)k * inner;
    Dtype d = a[at] - (b ? b[at] : Dtype(0));
    known = !(masked && isnan(d));
    if (!known) d = 0;
    sign = d > 0 ? Dtype(1) : d < 0 ? Dtype(-1) : d == 0 ? slope_at_0 : d;
    const bool flat = !whole && fabs(d) < plateau;
    if (flat || !known) sign = 0;
    return (flat ? Dtype(0) : fabs(d)) + shift_p;
  }

  // scale times the sum over the channels, and how many of them are known.
  __device__ Dtype sum(int &entries) const {
    Dtype total = 0, sign;
    bool known;
    entries = 0;
    for (int k = 0; k < channels; k++) {
      total += pow(base(k, 0, sign, known), p);
      entries += known;
    }
    return total * scale;
  }
};

__device__ __forceinline__ long long start_of(int i, int channels, int inner) {
  return (long long)(i / inner) * channels * inner + i % inner;
}

__global__ void losses(const int n, const int channels, const int inner, const Dtype p, const Dtype q, const Dtype shift_p,
                       const Dtype shift_q, const Dtype scale, const Dtype plateau, const bool whole,
                       const Dtype slope_at_0, const bool masked, const Dtype *a, const Dtype *b, Dtype *terms,
                       Dtype *counted) {
  GRID_STRIDE(i, n) {
    const Place place{channels, inner, p, shift_p, scale, plateau, whole, masked, a, b, start_of(i, channels, inner)};
    int entries;
    const Dtype total = place.sum(entries);
    terms[i] = pow((whole && total < plateau ? Dtype(0) : total) + shift_q, q);
    counted[i] = entries / Dtype(channels);
  }
}

// da and db may be null.
__global__ void gradient(const int n, const int channels, const int inner, const Dtype p, const Dtype q,
                         const Dtype shift_p, const Dtype shift_q, const Dtype scale, const Dtype plateau,
                         const bool whole, const Dtype slope_at_0, const bool masked, const Dtype *a, const Dtype *b,
                         const Dtype *weight, const Dtype *divisor, Dtype *da, Dtype *db) {
  GRID_STRIDE(i, n) {
    const Place place{channels, inner, p, shift_p, scale, plateau, whole, masked, a, b, start_of(i, channels, inner)};
    int entries;
    const Dtype total = place.sum(entries);
    const Dtype factor =
        whole && total < plateau ? Dtype(0) : *weight / *divisor * scale * p * q * pow(total + shift_q, q - 1);
    for (int k = 0; k < channels; k++) {
      Dtype sign;
      bool known;
      const Dtype base = place.base(k, slope_at_0, sign, known);
      const Dtype slope = sign == 0 ? Dtype(0) : sign * factor * pow(base, p - 1);
      const long long at = place.start + (long long)k * inner;
      if (da) da[at] = slope;
      if (db) db[at] = -slope;
    }
  }
}
