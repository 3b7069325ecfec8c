"""Random weights as a trained net may have them."""

from __future__ import annotations

import numpy as np

from minicaffe import Net


def randomize(net: Net, seed: int = 0) -> None:
    """Fill the parameters so that activations keep their scale, and give BatchNorms statistics as if trained.

    Weights have the deviation sqrt(2 / fan in), biases 0.1.  The statistics of BatchNorms are for a factor other than
    1, as a training leaves it: mean about 0.3, variance from 0.5 to 1.5.
    """
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            _fill_statistics(layer.blobs, rng)
            continue
        for blob in layer.blobs:
            fan_in = blob.count // blob.shape[0] if len(blob.shape) > 1 else 100
            blob.data[...] = rng.standard_normal(blob.shape) * np.sqrt((2 if len(blob.shape) > 1 else 1) / fan_in)
        if layer.type == "Scale" and layer.blobs:
            layer.blobs[0].data[...] = rng.uniform(0.5, 1.5, layer.blobs[0].shape)
        if layer.type == "BN" and len(layer.blobs) > 2:
            layer.blobs[3].data[...] = rng.uniform(0.5, 1.5, layer.blobs[3].shape)


def _fill_statistics(blobs, rng: np.random.Generator) -> None:
    factor = rng.uniform(0.5, 20)
    blobs[0].data[...] = 0.3 * factor * rng.standard_normal(blobs[0].shape)
    blobs[1].data[...] = factor * rng.uniform(0.5, 1.5, blobs[1].shape)
    blobs[2].data[...] = factor
    if len(blobs) > 3:  # NVIDIA's: scale and shift
        blobs[3].data[...] = rng.uniform(0.5, 1.5, blobs[3].shape)
        blobs[4].data[...] = 0.1 * rng.standard_normal(blobs[4].shape)
