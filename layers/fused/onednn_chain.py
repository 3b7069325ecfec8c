"""What chains of layers share: how they are found, run together, run apart and taken apart (see fusion.py)."""

from __future__ import annotations

from minicaffe.core.in_place import complete_in_themselves
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn.library import Alg, Unsupported


class Chain:
    """Layers `start` to `end` (inclusive) of a net, run as one.

    A subclass states `types`: the leading type, and those that may follow it once each and in this order.
    """

    types: tuple[str, ...] = ()

    def __init__(self, net, start: int, count: int) -> None:
        self.start, self.end = start, start + count - 1
        self.layers = net.layers[start : start + count]
        self.bottom, self.top = net.bottoms[start], net.tops[start]
        self.bottoms, self.tops = (blobs[start : start + count] for blobs in (net.bottoms, net.tops))
        self.wanted = net.bottom_need_backward[start]
        self.by_type = {layer.type: layer for layer in self.layers}
        self.first, self.relu = self.layers[0], self.by_type.get("ReLU")
        self.possible = True

    @classmethod
    def find(cls, net, start: int) -> Chain | None:
        """The chain of this kind that begins at layer `start`, if there is one."""
        return in_place_chain(cls, net, start)

    @classmethod
    def fits(cls, net, layers) -> bool:
        """Whether the layers, of the right types and in place, may be one chain of this kind."""
        return True

    def forward(self) -> None:
        """Run the layers, together if their shapes allow it."""
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops, strict=True):
            layer.reshape_if_needed(bottom, top)
        if self.possible and all(layer.native for layer in self.layers):
            try:
                self.forward_fused()
            except Unsupported:
                self.possible = False
            else:
                for layer in self.layers:
                    layer.chain = self
                self.settle()
                return
        self.forward_apart()

    def forward_apart(self) -> None:
        """Run the layers one by one."""
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops, strict=True):
            layer.forward(bottom, top)

    def forward_fused(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Called at the end of the forward pass that ran this chain."""

    def backward(self) -> None:
        """Run the layers backward, together."""
        self.backward_fused()
        self.settle()

    def backward_fused(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Bring views that scripts hold of the layers' blobs up to date."""
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops, strict=True):
            layer.settle(bottom, top)

    @property
    def fused(self) -> bool:
        """Whether the last forward pass of all these layers was this chain's."""
        return all(layer.chain is self for layer in self.layers)

    @property
    def runs_backward(self) -> bool:
        """Whether `backward` replaces the layers' own backward passes, after this forward pass."""
        return False

    def leave(self, layer) -> None:
        """Called before a layer of this chain runs forward by itself."""
        layer.chain = None

    def unchain(self) -> None:
        """Leave every layer whose last forward pass was this chain's as if it had run by itself.

        No blob that has a name is written to.
        """
        for layer in self.layers:
            if layer.chain is self:
                self.restore(layer)
        for layer in self.layers:
            if layer.chain is self:
                layer.chain = None

    def restore(self, layer) -> None:
        """Leave a layer with what its own backward pass needs beside its blobs."""

    def post(self) -> tuple:
        """The post-operation that is the ReLU."""
        return (("eltwise", Alg.RELU, self.relu.negative_slope, 0.0),) if self.relu else ()


def in_place_chain(kind: type[Chain], net, start: int) -> Chain | None:
    """The longest chain of a kind that begins at `start`."""
    layers = [net.layers[start]]
    if (getattr(layers[0], "role", "") or layers[0].type) != kind.types[0] or len(net.tops[start]) != 1:
        return None
    (top,), rest = net.tops[start], kind.types[1:]
    for i in range(start + 1, len(net.layers)):
        layer = net.layers[i]
        in_place = net.bottoms[i] == [top] and net.tops[i] == [top]
        if not in_place or layer.type not in rest:
            break
        rest = rest[rest.index(layer.type) + 1 :]
        layers.append(layer)
    usable = all(isinstance(layer, OneDNNLayer) and not layer.has_loss for layer in layers)
    if len(layers) < 2 or not usable or not complete_in_themselves(layers, start) or not kind.fits(net, layers):
        return None
    return kind(net, start, len(layers))
