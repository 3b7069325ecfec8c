"""The lines that `debug_info: true` prints: mean absolute values of blobs and diffs, in the original's format.

Following them from the data upwards shows where a loss of 87.3365 or nan begins.
"""

from __future__ import annotations

import logging

import numpy as np

log = logging.getLogger("minicaffe")


def _mean_abs(values: np.ndarray) -> str:
    return f"{np.abs(values).sum() / max(values.size, 1):.6g}"


def forward(net, i: int) -> None:
    """After layer i's forward pass: each top and each parameter."""
    layer_name = net._layer_names[i]
    for name, blob in zip(net._top_names[i], net.tops[i]):
        log.info("    [Forward] Layer %s, top blob %s data: %s", layer_name, name, _mean_abs(blob.read_data()))
    params = net.shared_params
    ids = [k for k, (layer_id, _) in enumerate(params.layer_of) if layer_id == i]
    for k, blob in zip(ids, net.layers[i].blobs):
        name = params.display_names[k]
        log.info("    [Forward] Layer %s, param blob %s data: %s", layer_name, name, _mean_abs(blob.read_data()))


def backward(net, i: int) -> None:
    """After layer i's backward pass: the bottoms and parameters that got a gradient."""
    layer_name, layer = net._layer_names[i], net.layers[i]
    for name, blob, needed in zip(net._bottom_names[i], net.bottoms[i], net.bottom_need_backward[i]):
        if needed:
            log.info("    [Backward] Layer %s, bottom blob %s diff: %s", layer_name, name, _mean_abs(blob.read_diff()))
    for j, (blob, needed) in enumerate(zip(layer.blobs, layer.param_propagate_down)):
        if needed:
            log.info("    [Backward] Layer %s, param blob %d diff: %s", layer_name, j, _mean_abs(blob.read_diff()))


def totals(net) -> None:
    """After the whole backward pass: the norms over all learnable parameters (severity E, as in the original)."""
    data = [blob.read_data() for blob in net.learnable_params]
    diff = [blob.read_diff() for blob in net.learnable_params]
    l1 = [sum(float(np.abs(a).sum(dtype=np.float64)) for a in arrays) for arrays in (data, diff)]
    l2 = [sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays) ** 0.5 for arrays in (data, diff)]
    log.error(
        "    [Backward] All net params (data, diff): L1 norm = (%s, %s); L2 norm = (%s, %s)",
        *(f"{v:.6g}" for v in (*l1, *l2)),
    )
