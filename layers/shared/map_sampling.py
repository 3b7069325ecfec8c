"""Which places without an object count in the loss of a map of boxes."""

from __future__ import annotations

import numpy as np

from minicaffe.philox import Stream

MODES = ("random", "bootstrap", "mixture")  #: any other mode: all of them count
_LEAST = 4  # places that are drawn for each class, with few objects or none


def negatives(param, classes: np.ndarray, eligible: np.ndarray, scores: np.ndarray, rng: Stream) -> np.ndarray:
    """Return which places count as background, (N, H, W) bool.

    param: a detection_loss_param.  classes: (N, H, W).  eligible: which places may count.  scores: (N, K, H, W).
    "random": bg_multiple places for each object, drawn with replacement, of which the eligible ones count;
    "bootstrap": for each class those with the largest scores, bg_multiple for each of its objects; "mixture": half as
    many of both.
    """
    if param.sample_mode not in MODES:
        return eligible
    kept = np.zeros(eligible.shape, bool)
    multiple = param.bg_multiple * (0.5 if param.sample_mode == "mixture" else 1)
    for n in range(len(classes)):
        flat, allowed = kept[n].reshape(-1), eligible[n].reshape(-1)
        if not flat.size:
            continue
        if param.sample_mode != "bootstrap":
            count = max(int(np.count_nonzero(classes[n]) * multiple), _LEAST * (param.cls_num - 1))
            drawn = rng.uniform_u32(count).astype(np.int64) % flat.size
            flat[drawn[allowed[drawn]]] = True
        if param.sample_mode != "random":
            places = np.flatnonzero(allowed)
            for k in range(1, param.cls_num):
                count = max(int(np.count_nonzero(classes[n] == k) * multiple), _LEAST)
                own = scores[n, k].reshape(-1)[places]
                flat[places[np.lexsort((-places, -own))[:count]]] = True
    return kept
