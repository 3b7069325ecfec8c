"""A net's blobs and layers by name, and by number as in pycaffe's compiled module; for scripts that traverse a net:

    for i, name in enumerate(net._layer_names):
        print(name, [net._blob_names[j] for j in net._bottom_ids(i)], [net._blob_names[j] for j in net._top_ids(i)])

Blobs are numbered in the order in which layers create them, including those of Split layers and the automatic tops of
losses; in-place tops are not counted again.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.containers import ReadOnlyDict
from minicaffe.core.guard import Guard
from minicaffe.core.layer import Layer
from minicaffe.errors import UsageError


class Naming:
    """Mixin of `Net`, which provides the lists below and calls `_name_blobs` once they are complete."""

    guard: Guard
    layers: list[Layer]
    tops: list[list[Blob]]
    inputs: list[str]
    outputs: list[str]
    layer_names: list[str]
    names_of_bottoms: list[list[str]]
    names_of_tops: list[list[str]]

    @property
    def _layer_names(self) -> list[str]:
        """pycaffe's private name of `layer_names`."""
        return self.layer_names

    @property
    def all_blobs(self) -> list[Blob]:
        """All blobs, automatic tops included, by number."""
        return self._blobs

    def _name_blobs(self) -> None:
        """Number the blobs, and create the dicts that map names to them."""
        self._blob_names: list[str] = []
        self._blobs: list[Blob] = []
        self._all_top_ids: list[list[int]] = []
        self._id_of: dict[str, int] = {}
        for names, tops in zip(self.names_of_tops, self.tops):
            for name, blob in zip(names, tops):
                if name == "(automatic)" or name not in self._id_of:
                    self._id_of[name] = len(self._blobs)
                    self._blob_names.append(name)
                    self._blobs.append(blob)
            self._all_top_ids.append([self._id_of[name] for name in names])
        self._blob_loss_weights = [0.0] * len(self._blobs)
        for ids, layer in zip(self._all_top_ids, self.layers):
            for i, weight in zip(ids, layer.loss_weights):
                self._blob_loss_weights[i] = weight
        self._blob_dict = ReadOnlyDict(
            zip(self._blob_names, self._blobs),
            "blob",
            "net.blobs cannot be changed; to write values: net.blobs[name].data[...] = array",
        )
        self._loss_weight_dict = ReadOnlyDict(
            zip(self._blob_names, self._blob_loss_weights),
            "blob",
            "net.blob_loss_weights cannot be changed; give the layer a loss_weight in the prototxt",
        )

    @property
    def blobs(self) -> ReadOnlyDict:
        """{blob name: Blob}, in the order in which layers create them; read-only.

        Raises `NetError` while another thread runs the net.
        """
        self.guard.check()
        return self._blob_dict

    @property
    def blob_loss_weights(self) -> ReadOnlyDict:
        """{blob name: weight of the blob in the loss}; read-only."""
        return self._loss_weight_dict

    @property
    def params(self) -> ReadOnlyDict:
        """{layer name: BlobVec} of the layers with parameters, in order; read-only.  Of equal names, the last layer's.

        Raises `NetError` while another thread runs the net.
        """
        self.guard.check()
        entries = ((name, layer.blobs) for name, layer in zip(self.layer_names, self.layers) if layer.blobs)
        return ReadOnlyDict(
            entries,
            "layer with parameters",
            "net.params cannot be changed; to write values: net.params[layer name][0].data[...] = array",
        )

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """{layer name: Layer}, in order; of equal names, the last layer (`layers` contains all)."""
        return OrderedDict(zip(self.layer_names, self.layers))

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """{layer name: list of the names of its tops}."""
        return OrderedDict((name, list(tops)) for name, tops in zip(self.layer_names, self.names_of_tops))

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """{layer name: list of the names of its bottoms}."""
        return OrderedDict((name, list(bottoms)) for name, bottoms in zip(self.layer_names, self.names_of_bottoms))

    def _bottom_ids(self, layer: int) -> list[int]:
        """Return the numbers of the bottoms of layer number `layer`; UsageError if there is no such layer."""
        return [self._id_of[name] for name in self.names_of_bottoms[self._checked(layer)]]

    def _top_ids(self, layer: int) -> list[int]:
        """Return the numbers of the tops of layer number `layer`; UsageError if there is no such layer."""
        return list(self._all_top_ids[self._checked(layer)])

    @property
    def _inputs(self) -> list[int]:
        return [self._id_of[name] for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._id_of[name] for name in self.outputs]

    def _checked(self, layer: int) -> int:
        if not isinstance(layer, (int, np.integer)) or not 0 <= layer < len(self.layers):
            raise UsageError(f"expected the number of a layer, 0 to {len(self.layers) - 1}, got {layer!r}")
        return layer
