"""Base class of the oneDNN variants of layers.

A variant is the layer's numpy class with this mixin before it: it inherits parameters, shapes and checks, and runs the
numpy code where oneDNN has no primitive.  Bottoms and tops are in oneDNN's layouts (`minicaffe.onednn.layouts`).

    @register("TanH", engine="ONEDNN")
    class OneDNNTanH(OneDNNLayer, TanH):
        def forward_onednn(self, bottom, top): ...
        def backward_onednn(self, top, propagate_down, bottom): ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from minicaffe.core import settings
from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.onednn import layouts
from minicaffe.onednn.library import BF16, F32, MOST_AXES, Unsupported
from minicaffe.onednn.tensors import MemoryDesc, Tensor, in_vectors

_MOST_EXECUTIONS = 64
_MOST_SHAPES = 8
_MOST_SOURCES = 1024  #: bottoms or tops; above some thousands, oneDNN has no numbers for its arguments


class OneDNNLayer(Layer):
    """Runs `forward_onednn` and `backward_onednn`, or the numpy code where `expressible` returns False."""

    def expressible(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> bool:
        """Whether oneDNN has primitives for these parameters and shapes; called after each reshape."""
        return True

    def forward_onednn(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops by primitives; make these before writing to a top, as that may raise Unsupported."""
        raise NotImplementedError

    def backward_onednn(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Compute the diffs of bottoms and parameters by primitives."""
        raise NotImplementedError

    def gains_from_bf16(self) -> bool:
        """Whether primitives with bfloat16 operands are faster for these parameters and shapes."""
        return True

    #: the type of what the layer's primitives multiply: F32, or BF16 with float32 sums; chosen in each reshape
    operand_type = F32

    #: what the layer does with blobs in bfloat16 where it gains from it, see `Layer.bf16_blobs`
    bf16_use = ""

    @property
    def bf16_blobs(self) -> str:
        return self.bf16_use if self.operand_type == BF16 and self.native else ""

    @property
    def top_type(self) -> int:
        """The type in which the layer writes its tops' data."""
        return BF16 if self.bf16_top else F32

    @property
    def diff_type(self) -> int:
        """The type in which the layer writes its bottoms' diffs."""
        return BF16 if self.bf16_bottom else F32

    def data(self, blob: Blob) -> Tensor:
        """A blob's values in their current layout; in bfloat16 if they are and the layer passes it on, else float32."""
        return layouts.read(blob.data_memory, blob.shape) if self.bf16_bottom else layouts.data(blob)

    def data_in_vectors(self, blob: Blob) -> Tensor:
        """As `data`, but in another layout where the current one is slow for normalization (`in_vectors`)."""
        x = self.data(blob)
        return layouts.data(blob, in_vectors(x.desc))

    def diff(self, blob: Blob) -> Tensor:
        """A blob's diff in its current layout; in bfloat16 if it is and the layer passes it on, else float32."""
        return layouts.read(blob.diff_memory, blob.shape) if self.bf16_top else layouts.diff(blob)

    #: whether the numpy code's backward pass reads only blobs, nothing that its forward pass has kept, so that it may
    #: follow `forward_onednn`
    reads_blobs_only = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plans_by_shapes: dict[tuple, dict] = {}  # in the order of last use

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self._plans = self._plans_for(tuple(b.shape for b in (*bottom, *top)))
        self.operand_type = BF16 if self.precision == settings.BF16 and self.gains_from_bf16() else F32
        self._bound: dict[tuple, Any] = {}
        self._own: dict[tuple, Tensor] = {}
        fits = all(b.count and b.num_axes <= MOST_AXES for b in (*bottom, *top)) and len(
            bottom
        ) <= _MOST_SOURCES >= len(top)
        self.native = fits and self.expressible(bottom, top)

    def forget_buffers(self):
        self._bound.clear()

    @property
    def replayable(self):
        return self.native or super().replayable

    def forward_cpu(self, bottom, top):
        if self.native:
            try:
                return self.forward_onednn(bottom, top)
            except Unsupported:
                self.native = False
        super().forward_cpu(bottom, top)

    def backward_cpu(self, top, propagate_down, bottom):
        if self.native:
            try:
                return self.backward_onednn(top, propagate_down, bottom)
            except Unsupported:
                if not self.reads_blobs_only:
                    raise self.error("oneDNN has no backward pass for these shapes: set engine: CAFFE") from None
        super().backward_cpu(top, propagate_down, bottom)

    def _plans_for(self, shapes: tuple) -> dict:
        """The plans for these shapes of bottoms and tops; those of the last 8 shapes are kept."""
        plans = self._plans_by_shapes[shapes] = self._plans_by_shapes.pop(shapes, {})
        if len(self._plans_by_shapes) > _MOST_SHAPES:
            del self._plans_by_shapes[next(iter(self._plans_by_shapes))]
        return plans

    def plan(self, make: Callable, *key: Any) -> Any:
        """Return `make(*key)`, cached for the last 8 shapes of bottoms and tops; for primitives, not for memory."""
        known = self._plans.get((make, key))
        if known is None:
            known = self._plans[make, key] = make(*key)
        return known

    @overload
    def own(self, desc: MemoryDesc, use: str = "") -> Tensor: ...

    @overload
    def own(self, desc: None, use: str = "") -> None: ...

    def own(self, desc: MemoryDesc | None, use: str = "") -> Tensor | None:
        """Return memory of the layer's own in a layout, kept until the layer is reshaped; None for None.

        use: a name, where the layer needs several of the same layout.
        """
        if desc is None:
            return None
        memory = self._own.get((desc, use))
        if memory is None:
            memory = self._own[desc, use] = Tensor(desc)
        return memory

    @overload
    def borrow(self, desc: MemoryDesc, use: str) -> Tensor: ...

    @overload
    def borrow(self, desc: None, use: str) -> None: ...

    def borrow(self, desc: MemoryDesc | None, use: str) -> Tensor | None:
        """Return memory in a layout for this call alone, in the net's scratch memory; None for None."""
        if desc is None:
            return None
        if desc.padded:  # the padding must stay zero
            return self.own(desc, use)
        buffer = self.scratch.bytes(use, desc.size)
        memory = self._own.get((desc, use))
        if memory is None:
            memory = self._own[desc, use] = Tensor(desc, buffer)
        elif memory.buffer is not buffer:
            memory.move(buffer)
        return memory

    def add_to_diffs(self, *gradients: Tensor | None) -> None:
        """Add to the diffs of the parameters, in order, that need a gradient; None for one that was not computed."""
        for blob, gradient, needed in zip(self.blobs, gradients, self.param_propagate_down):
            if needed and gradient is not None:
                layouts.add_to_diff(blob, gradient)

    def execute(self, primitive, *args: Any) -> None:
        """Run a primitive on `Arg.X, memory, Arg.Y, memory, ...`; its binding to these is cached."""
        execution = self._bound.get((primitive, args))
        if execution is None:
            if len(self._bound) >= _MOST_EXECUTIONS:
                self._bound.clear()
            execution = self._bound[primitive, args] = primitive.bind(dict(zip(args[::2], args[1::2], strict=True)))
        execution()
