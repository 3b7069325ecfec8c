"""MalisLoss: a loss of affinities that counts the pairs of pixels that each edge connects."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import LossLayer
from minicaffe.layers.shared.views import truncated


@register("MalisLoss")
class MalisLoss(LossLayer):
    """loss = (apart + together) / 2N, summed over the edges that connect two parts when the strongest come first

    apart: with q = max(p, true affinity), the mean of q^2 over the pairs of pixels with different labels, where q is
        that of the edge which first connects them; together: with q = min(p, true affinity), the mean of (1 - q)^2 over
        the pairs with one label.  Both are maximum spanning trees; pixels with label 0 are in no pair.

    Bottoms: p, affinities (N, E, [[Z,] Y,] X) from 0 to 1; true affinities of the same shape; labels of components,
        (N, 1, [[Z,] Y,] X), or (N, 2, ...) with those for `apart` in channel 0 and those for `together` in channel 1;
        optionally the edges, E times (z, y, x), from a pixel to the other one.  Without them there is one for each
        axis: x; y, x; or z, y, x.  Tops: the loss; optionally p.
    The gradient is half the derivative, as in the original, and 0 for all bottoms but p.  On the host, for edges come
    one after the other.
    Source: Turaga, Briggman, Helmstaedter, Denk and Seung, Maximin affinity learning of image segmentation, 2009.
    """

    fork = "naibaf7's Caffe"
    exact_num_bottom = None
    min_bottom, max_bottom = 3, 4
    exact_num_top = None
    min_top, max_top = 1, 2
    no_gradient = (1, 2, 3)
    backward_reads = ()
    capturable = False  # works on the host

    def setup(self, bottom, top):
        self.slope = np.zeros(0)

    def top_shapes(self, bottom_shapes):
        p, true, labels = bottom_shapes[:3]
        if not 3 <= len(p) <= 5 or p != true:
            raise self.error(f"bottoms 0 and 1 must be (N, E, [[Z,] Y,] X), got {p} and {true}")
        if len(labels) != len(p) or labels[:1] + labels[2:] != p[:1] + p[2:] or labels[1] not in (1, 2):
            raise self.error(f"bottom 2 must be {(p[0], 1, *p[2:])}, or have 2 channels, got {labels}")
        if len(bottom_shapes) == 4 and np.prod(bottom_shapes[3]) != 3 * p[1]:
            raise self.error(f"bottom 3 must hold {p[1]} edges of 3 numbers, got {bottom_shapes[3]}")
        if len(bottom_shapes) == 3 and p[1] > 3:
            raise self.error(f"for more than 3 edges bottom 3 must state where they lead, got {p[1]} without it")
        return [(), p]

    def edges(self, bottom) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which edges stay inside, as indices of E * places, and the two pixels of each of these."""
        count, size = bottom[0].shape[1], bottom[0].shape[2:]
        size = (1,) * (3 - len(size)) + size
        steps = bottom[3].read_data().reshape(count, 3) if len(bottom) == 4 else np.eye(3)[3 - count :]
        pixels = np.indices(size).reshape(3, 1, -1)
        ends = pixels + truncated(steps, np.int64).T[:, :, None]
        inside = ((ends >= 0) & (ends < np.reshape(size, (3, 1, 1)))).all(0)
        first = np.broadcast_to(np.arange(pixels.shape[2]), inside.shape)
        second = np.ravel_multi_index(tuple(ends), size, mode="clip")
        return np.flatnonzero(inside), first[inside], second[inside]

    def forward_cpu(self, bottom, top):
        (p, true, labels), (inside, first, second) = (blob.read_data() for blob in bottom[:3]), self.edges(bottom)
        loss, samples = 0.0, p.shape[0]
        self.slope = np.zeros((samples, bottom[0].count_range(1)), self.dtype)
        for n in range(samples):
            for same, merged, channel in ((False, np.maximum, 0), (True, np.minimum, -1)):
                q = merged(p[n], true[n]).reshape(-1)[inside].astype(np.float64)
                shares = _shares(q, first, second, truncated(labels[n, channel], np.int64).reshape(-1), same)
                missing = same - q
                loss += 0.5 * float((missing**2 * shares).sum())
                self.slope[n, inside] -= 0.5 * missing * shares
        top[0].data[...] = loss / max(samples, 1)
        if len(top) > 1:
            top[1].data[...] = p

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom[1:], propagate_down[1:]):
            if wanted:  # an Affinity makes bottoms 0 and 1 together
                blob.clear_diff()
        if propagate_down[0]:
            scale = self.loss_weight(top) / self.batch_size(bottom)
            np.multiply(self.slope.reshape(bottom[0].shape), scale, out=bottom[0].diff)


def _shares(q: np.ndarray, first: np.ndarray, second: np.ndarray, labels: np.ndarray, same: bool) -> np.ndarray:
    """Return the share of the pairs with one label, or with two, that each edge of a maximum spanning tree connects."""
    pairs = np.zeros(len(q))
    order = np.argsort(-q, kind="stable")
    parent = list(range(len(labels)))
    members = [{label: 1} if label else {} for label in labels.tolist()]  # of a tree: how many have each label
    sizes = [len(each) for each in members]
    for edge, a, b in zip(order.tolist(), first[order].tolist(), second[order].tolist()):
        a, b = _root(parent, a), _root(parent, b)
        if a == b:
            continue
        if len(members[a]) < len(members[b]):
            a, b = b, a
        own, other = members[a], members[b]
        equal = sum(count * own.get(label, 0) for label, count in other.items())
        pairs[edge] = equal if same else sizes[a] * sizes[b] - equal
        for label, count in other.items():
            own[label] = own.get(label, 0) + count
        parent[b], members[b], sizes[a] = a, {}, sizes[a] + sizes[b]
    counts = np.unique(labels[labels != 0], return_counts=True)[1].astype(np.float64)
    equal = (counts * (counts - 1) / 2).sum()
    total = equal if same else counts.sum() * (counts.sum() - 1) / 2 - equal
    return pairs / max(total, 1)


def _root(parent: list[int], pixel: int) -> int:
    """Return the root of the tree of a pixel, and halve the way there."""
    while parent[pixel] != pixel:
        parent[pixel] = pixel = parent[parent[pixel]]
    return pixel
