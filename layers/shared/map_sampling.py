"""Which places count in the loss of maps of boxes."""

from __future__ import annotations

import math

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


def sampled(param, objects: np.ndarray, eligible: np.ndarray, hardness: np.ndarray, rng: Stream):
    """Return which places count as objects, and which as background, (N, n) bool.

    param: a detection_group_loss_param.  objects, eligible: which may, (N, n), of N images.  hardness: (N, n), of the
    background: the largest ones are chosen with "bootstrap", and are half of what is chosen with "mixture".
    """
    chosen, kept, generator = np.zeros(objects.shape, bool), np.zeros(objects.shape, bool), rng.generator()
    for n in range(len(objects)):
        own, others = np.flatnonzero(objects[n]), np.flatnonzero(eligible[n])
        most = len(own)
        if param.batch_size > 0:
            most = min(most, math.floor(param.batch_size / (1 + param.bg_multiple) + 0.5))
            count = param.batch_size - most
        else:
            count = max(most * param.bg_multiple, param.min_num_neg)
        chosen[n, generator.permutation(own)[:most]] = True
        count = min(count, len(others))
        hard = {"random": 0, "bootstrap": count, "mixture": (count + 1) // 2}[param.neg_mining_type]
        by_hardness = others[np.lexsort((-others, -hardness[n, others]))]  # of equal ones the last place comes first
        kept[n, by_hardness[:hard]] = True
        kept[n, generator.permutation(np.sort(by_hardness[hard:]))[: count - hard]] = True
    return chosen, kept
