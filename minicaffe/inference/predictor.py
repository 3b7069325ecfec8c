"""A net that is run on batches of any number of rows, and the blobs that are wanted of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.net import Net
from minicaffe.core.sharing import Sharing
from minicaffe.errors import NetError, UsageError, listed, nearest
from minicaffe.export.deploy import deployed
from minicaffe.proto import caffe_pb2

_KEPT = ("Softmax", "ArgMax")  # of the layers of losses, those that compute predictions


class Predictor:
    """A net in TEST with one input, for one thread at a time.

    net: the net; one with data layers, losses or several inputs is replaced by `deployed`, with the same parameters.
    blobs: names of the blobs to return (default: the net's outputs).
    Attributes: `net`; `input`, the name of its input; `blobs`; `detected_classes`, their number if the only blob
        is a DetectionOutput's, else 0.
    NetError for a blob that it does not have; UsageError for a net with several inputs, or none, and for a
    DetectionOutput's blob beside others.
    """

    def __init__(self, net: Net, blobs: Sequence[str] = ()) -> None:
        self.net = net if len(net.inputs) == 1 else deployed(net, _is_kept)
        if len(self.net.inputs) != 1:
            names = listed(self.net.inputs) or "none"
            raise UsageError(f"net '{net.name}': expected one input, for images, got {names}: a script can set each")
        self.input: str = self.net.inputs[0]
        for name in blobs:
            if name not in self.net.blobs:
                known = self.net.blobs
                raise NetError(f"the net has no blob '{name}'{nearest(name, known)}; it has {', '.join(known)}")
        self.blobs = list(dict.fromkeys(blobs or self.net.outputs))
        detectors = {name: count for name, count in _detectors(self.net).items() if name in self.blobs}
        if detectors and len(self.blobs) > 1:
            raise UsageError(
                f"blob '{next(iter(detectors))}' of a DetectionOutput layer has a row for each object, and "
                f"no common rows with the others of {listed(self.blobs)}: choose one with --blob"
            )
        self.detected_classes = sum(detectors.values())
        if not set(self.blobs) <= set(self.net.outputs):
            self.net.share_memory(Sharing.NEVER)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the input, with the present batch size first."""
        return self.net.blobs[self.input].shape

    def row_shape(self, blob: str) -> tuple[int, ...]:
        """Return the shape of a blob without the batch."""
        return self.net.blobs[blob].shape[1:]

    def gives_classes(self, blob: str) -> bool:
        """Return whether a blob is an output of the net and has one score for each of several classes, (N, C)."""
        shape = self.row_shape(blob)
        return not self.detected_classes and blob in self.net.outputs and 1 < max(shape, default=0) == math.prod(shape)

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the blobs, (N, ...), for a batch of the net's input, float32 (N, ...); copies.

        The net is reshaped if its batch has another size.
        Of a DetectionOutput: (1, 1, D, 7), see `results.Layout.table`.
        NetError for any other blob whose axis 0 is not the batch.
        """
        blob = self.net.blobs[self.input]
        if images.shape != blob.shape:
            blob.reshape(*images.shape)
            self.net.reshape()
        blob.data[...] = images
        self.net.forward()
        rows = {name: self.net.blobs[name].read_data().copy() for name in self.blobs}
        for name, values in rows.items():
            if values.shape[:1] != images.shape[:1] and not self.detected_classes:
                raise NetError(
                    f"blob '{name}' has shape {values.shape}: its axis 0 is not the batch of {len(images)} images; "
                    "choose another blob with --blob"
                )
        return rows


def _detectors(net: Net) -> dict[str, int]:
    """Return the blobs that have rows of detections, with the number of classes."""
    counts = [layer.detected_classes for layer in net.layers]
    return {top: count for count, tops in zip(counts, net.names_of_tops) if count for top in tops}


def _is_kept(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.type in _KEPT
