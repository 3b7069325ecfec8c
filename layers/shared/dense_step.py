"""A step of DenseBlock: layers one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import create_layer
from minicaffe.proto import TRAIN, caffe_pb2

BN_EPS = 1e-5  #: is added to variances


class DenseStep:
    """The layers of step t of a DenseBlock, which learn blobs of the block.

    x: its bottom.  y: its top.  kernel: the 3x3 kernels as Convolution has them, those of the block turned.
    """

    def __init__(self, block, t: int, x: Blob) -> None:
        self._block, self._t = block, t
        self._parts: list[tuple[Layer, Blob, Blob, list[int]]] = []  # with the places of blobs in the block
        param, top = block.param, self._normalized(x, 1)
        if block.bottleneck:
            wide = self._convolved(top, 4 * block.growth, 1, [self._place(5)])
            top = self._normalized(wide, 6)
        self.kernel = Blob((block.growth, top.shape[1], 3, 3), block.dtype)
        self.y = self._convolved(top, block.growth, 3, [])
        if param.use_dropout and param.dropout_amount and block.phase == TRAIN:
            dropout = caffe_pb2.DropoutParameter(dropout_ratio=param.dropout_amount)
            self._add("Dropout", self.y, self.y, [], dropout_param=dropout)

    def _place(self, group: int) -> int:
        return group * self._block.count + self._t

    def _normalized(self, x: Blob, group: int) -> Blob:
        """Add a normalization, whose blobs are of four groups from `group`, and a ReLU."""
        y, momentum = Blob((), x.dtype), 1 - self._block.param.moving_average_fraction
        bn = caffe_pb2.BNParameter(momentum=momentum, eps=BN_EPS)
        self._add("BN", x, y, [self._place(group + i) for i in range(4)], bn_param=bn)
        self._add("ReLU", y, y, [])
        return y

    def _convolved(self, x: Blob, outputs: int, size: int, places: list[int]) -> Blob:
        """Add a convolution, whose kernels are a blob of the block, or `kernel`."""
        y = Blob((), x.dtype)
        window = {"kernel_size": [size], "pad": [size // 2], "bias_term": False}
        convolution = caffe_pb2.ConvolutionParameter(num_output=outputs, **window)
        self._add("Convolution", x, y, places, convolution_param=convolution)
        return y

    def _add(self, kind: str, x: Blob, y: Blob, places: list[int], **param) -> None:
        block = self._block
        layer_param = caffe_pb2.LayerParameter(name=f"{block.name}/{self._t}/{kind.lower()}", type=kind, **param)
        layer = create_layer(layer_param, block.phase, block.dtype)
        own = [block.blobs[i] for i in places] or ([self.kernel] if kind == "Convolution" else [])
        layer.blobs.extend(own)
        layer.initialize([x], [y])
        self._parts.append((layer, x, y, places))

    @property
    def collective(self) -> bool:
        """Whether its passes wait for those of the same step at all other ranks."""
        return any(layer.collective for layer, *_ in self._parts)

    def forward(self) -> None:
        """Compute y from x, by the layers' code for the device in use."""
        for layer, x, y, _ in self._parts:
            layer.forward([x], [y])

    def backward(self, wanted: Sequence[bool]) -> None:
        """Compute the diff of x from that of y; add to diffs of parameters, those that are `wanted` in the block."""
        for layer, x, y, places in reversed(self._parts):
            if places:
                layer.param_propagate_down = [wanted[i] for i in places]
            layer.backward([y], [True], [x])

    def state(self) -> list[dict]:
        """Return the states of the layers."""
        return [layer.state() for layer, *_ in self._parts]

    def load_state(self, state: list[dict]) -> None:
        """Restore a state returned by `state()`."""
        for (layer, *_), own in zip(self._parts, state):
            layer.load_state(own)
