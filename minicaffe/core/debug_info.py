"""Log lines of `debug_info: true`: mean absolute values of blobs and diffs, in Caffe's format.

In the order of the layers, they show which layer first produces nan or values that are too large.
"""

from __future__ import annotations

import logging

import numpy as np

log = logging.getLogger("minicaffe")


def _mean_abs(values: np.ndarray) -> str:
    return f"{np.abs(values).sum() / max(values.size, 1):.6g}"


def forward(net, i: int) -> None:
    """Log the tops and parameters of layer i, after its forward pass."""
    layer_name = net.layer_names[i]
    for name, blob in zip(net.names_of_tops[i], net.tops[i]):
        log.info("    [Forward] Layer %s, top blob %s data: %s", layer_name, name, _mean_abs(blob.read_data()))
    params = net.shared_params
    ids = [k for k, (layer_id, _) in enumerate(params.layer_of) if layer_id == i]
    for k, blob in zip(ids, net.layers[i].blobs):
        name = params.display_names[k]
        log.info("    [Forward] Layer %s, param blob %s data: %s", layer_name, name, _mean_abs(blob.read_data()))


def backward(net, i: int) -> None:
    """Log the diffs of the bottoms and parameters of layer i that need a gradient, after its backward pass."""
    layer_name, layer = net.layer_names[i], net.layers[i]
    for name, blob, needed in zip(net.names_of_bottoms[i], net.bottoms[i], net.bottom_need_backward[i]):
        if needed:
            log.info("    [Backward] Layer %s, bottom blob %s diff: %s", layer_name, name, _mean_abs(blob.read_diff()))
    for j, (blob, needed) in enumerate(zip(layer.blobs, layer.param_propagate_down)):
        if needed:
            log.info("    [Backward] Layer %s, param blob %d diff: %s", layer_name, j, _mean_abs(blob.read_diff()))


def totals(net) -> None:
    """Log the L1 and L2 norms of all learnable parameters, after the backward pass (severity E, as in Caffe)."""
    data = [blob.read_data() for blob in net.learnable_params]
    diff = [blob.read_diff() for blob in net.learnable_params]
    l1 = [sum(float(np.abs(a).sum(dtype=np.float64)) for a in arrays) for arrays in (data, diff)]
    l2 = [sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays) ** 0.5 for arrays in (data, diff)]
    log.error(
        "    [Backward] All net params (data, diff): L1 norm = (%s, %s); L2 norm = (%s, %s)",
        *(f"{v:.6g}" for v in (*l1, *l2)),
    )
