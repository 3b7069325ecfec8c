"""The contract that all layers keep.

A layer states facts about its type (facts.py), reads its parameters once (`setup`), states its shapes (`param_shapes`,
`top_shapes`: pure functions), and computes (`forward_*`, `backward_*`).  The base class does the rest: it counts
bottoms and tops, allocates, reshapes, chooses the device, and sums weighted losses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe.core import random
from minicaffe.core.blob import Blob, settle
from minicaffe.core.containers import BlobVec
from minicaffe.core.engine import runner
from minicaffe.core.facts import Facts, Shape
from minicaffe.core.fillers import fill
from minicaffe.core.in_place import KeptBlobs, Overwrites
from minicaffe.core.scratch import Scratch
from minicaffe.core.settings import settings
from minicaffe.errors import BlobError, LayerError
from minicaffe.proto.caffe_pb2 import LayerParameter
from minicaffe.saved import field
from minicaffe.text import printable_line

if TYPE_CHECKING:
    from minicaffe.core.fusion import Fused


class Layer(Facts):
    """Base of all layers.

    layer_param: its LayerParameter; phase: TRAIN or TEST; dtype: of its parameters.

    Attributes a layer may use: `name`, `phase`, `layer_param`, `dtype`, `rng` (its own stream of random numbers),
    `blobs` (its learned parameters), `scratch` (memory for one call), `param_propagate_down` (one bool per parameter).
    """

    def __init__(
        self, layer_param: LayerParameter, phase: int | None = None, dtype: np.typing.DTypeLike = np.float32
    ) -> None:
        self.layer_param = layer_param
        self.name: str = layer_param.name
        self.phase: int = layer_param.phase if phase is None else phase
        self.dtype: np.dtype = np.dtype(dtype)
        self.rng = random.new_stream()
        self.scratch = Scratch()  #: that of the net, if it belongs to one
        self.blobs = BlobVec(self.name, self.dtype)
        self.param_propagate_down: list[bool] = []
        self.loss_weights: list[float] = []
        self.has_loss = False  #: whether any top counts in the loss
        self.fused: Fused | None = None  #: what computed this layer's last forward pass together with others'
        self.keeps = True  #: whether forward passes keep what backward reads; not while buffers are shared in TEST
        self.kept_blobs: KeptBlobs | None = None  #: copies of what is overwritten before backward reads it
        self.overwritten_tops: frozenset[int] = frozenset()  #: which tops a layer behind this one changes in place
        self._loss_counts: list[int] = []
        self._seen: list = []

    # -- what a layer states ---------------------------------------------------------------------------------------

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read `layer_param` into attributes; called once, before `param_shapes` and `top_shapes`."""

    def param_shapes(self, bottom_shapes: Sequence[Shape]) -> Sequence[tuple[Shape, Any]]:
        """Shape and FillerParameter of each learned parameter."""
        return []

    def top_shapes(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """The shape of each top, from the shapes of the bottoms alone."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes; layers with buffers of their own size them after `super().reshape`."""
        for blob, shape in zip(top, self.top_shapes([b.shape for b in bottom])):
            blob.reshape(shape)

    def macs(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        """The multiply-accumulates (MACs) of one forward pass over bottoms and tops of these shapes; 0 by default.

        One MAC is a number of a bottom times a learned weight, added to a sum: what convolutions, matrix products and
        the steps of recurrent layers consist of.  Positions in the padding of a convolution count, and so do all
        samples of the batch.  Not counted are the bias, elementwise work (activations, normalisation, Scale, Eltwise),
        pooling, look-ups, fixed interpolation, losses, and the backward pass.  In FLOPs a MAC is two.

        Called after `setup`; a pure function of the shapes.
        """
        return 0

    def forward_cpu(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the tops' data."""
        raise NotImplementedError

    def backward_cpu(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Overwrite the diffs of the bottoms with `propagate_down`; add to the diffs of the parameters."""
        if any(propagate_down):
            raise self.error("there is no backward pass through this layer")

    def forward_gpu(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """As `forward_cpu`, in kernels; without kernels of its own a layer runs on the CPU."""
        self.forward_cpu(bottom, top)

    def backward_gpu(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """As `backward_cpu`, in kernels."""
        self.backward_cpu(top, propagate_down, bottom)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Whether `force_backward` reaches this bottom: not labels, and nothing where there is no backward pass."""
        has_backward = own_class(type(self)).backward_cpu is not Layer.backward_cpu
        return has_backward and self.may_have_gradient(bottom_index, len(self.layer_param.bottom))

    def default_loss_weight(self, top_index: int) -> float:
        """The weight of a top in the loss where the prototxt gives none: 1 for the first top of losses."""
        return 0.0

    @property
    def bf16_blobs(self) -> str:
        """What the layer, once it is set up, does with blobs in bfloat16.

        "" (default): nothing, it reads and writes float32.  "reads": it reads them, and writes float32.  "writes": it
        reads and writes them.  "passes": its tops have the type of its bottoms.
        """
        return ""

    def state(self) -> dict:
        """Return what a resumed run needs beyond the parameters: the random stream, a reader's position."""
        return {"rng": self.rng.get_state()}

    def load_state(self, state: dict) -> None:
        """Restore a state returned by `state()`; SnapshotError for a value that is missing or out of range."""
        self.rng.set_state(field(state, "rng"))

    def load_common_state(self, state: dict) -> None:
        """Restore what all ranks of a training have in common in a `state()`: the position of a reader, counters."""

    def adapted(self, stored: dict) -> dict:
        """The blobs that a file of weights has for the layer, by index, with those converted that need it.

        stored: `stored_weights.StoredBlob` objects.
        """
        return stored

    def forget_buffers(self) -> None:
        """Let go of buffers of blobs that are kept for the next pass: it will not be in these."""

    @property
    def replayable(self) -> bool:
        """Whether a forward pass in TEST is no more than calls that an engine reports, see replay.py."""
        return False

    # -- what the base class does ----------------------------------------------------------------------------------

    def error(self, text: str) -> LayerError:
        """The exception of this layer: its type and name, then the text."""
        return LayerError(f"{self.layer_param.type} layer '{self.name}': {text}")

    def no_room(self, error: MemoryError) -> LayerError:
        """The exception of this layer for an allocation that failed; the message of `error` gives its size."""
        return self.error(f"there is not enough memory ({error})")

    def missing_tops(self, given: int) -> int:
        """How many tops a net adds to the `given` ones of the prototxt: those that a loss may leave out."""
        return max(0, (self.min_top or 0) - given, (self.exact_num_top or 0) - given) if self.auto_top_blobs else 0

    def set_shapes(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """As much of `initialize` as the shapes of tops and learned blobs need: neither is filled, nor allocated."""
        with self._named():
            self._set_up(bottom, top, filled=False)

    def initialize(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check counts, read parameters, make and fill the learned blobs, shape the tops, set the loss weights."""
        with self._named():
            self._set_up(bottom, top, filled=True)
            if isinstance(self.blobs, BlobVec):
                self.blobs.complete()
            self._set_loss_weights(top)
            self.kept_blobs = Overwrites([self], [bottom], [top]).kept_by(0)  # a net finds out what others overwrite

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Reshape to the bottoms and compute the tops."""
        self.reshape_if_needed(bottom, top)
        self.fused = None
        try:
            self.forward_and_keep(bottom, top)
        except MemoryError as error:
            raise self.no_room(error) from error
        if settings.engine.settles_each_layer:
            self.settle(bottom, top)

    def forward_and_keep(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops, whose shapes are right; keep what is overwritten before backward reads it."""
        kept = self.kept_blobs if self.keeps else None
        if kept is not None:
            bottom = kept.before_forward(bottom, top)
        settings.engine.forward(self, bottom, top)
        if kept is not None:
            kept.after_forward(top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Compute the diffs of the bottoms and parameters from those of the tops."""
        if self.fused is not None:
            self.fused.release()
        if self.kept_blobs is not None:
            top, bottom = self.kept_blobs.for_backward(top, bottom)
        engine = settings.engine
        try:
            engine.backward(self, top, propagate_down, bottom)
        except MemoryError as error:
            raise self.no_room(error) from error
        if engine.settles_each_layer:
            self.settle(bottom, top)

    def settle(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """After a pass through the layer: bring views that scripts hold of its blobs up to date."""
        settle((*bottom, *top, *self.blobs))

    def reshape_if_needed(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Reshape, unless shapes and memory of bottoms and tops are those of the last time.

        When the layer cannot take the new shapes, its tops stay as they were.
        """
        if self.always_reshape or self._seen != _signature(bottom, top):
            self._seen = []
            with self._named():
                self._reshape(bottom, top)
            if self.has_loss and self._loss_counts != [b.count for b in top]:
                self._fill_loss_diffs(top)
            self._seen = _signature(bottom, top)

    def loss(self, top: Sequence[Blob]) -> float:
        """Sum over the tops of loss weight times the sum of the top."""
        return float(sum(weight * blob.read_data().sum() for weight, blob in zip(self.loss_weights, top) if weight))

    def kernel(self, name: str) -> Any:
        """The kernel of that name in the `.cu` file with this layer's stem, for this layer's dtype."""
        return runner("GPU").kernel(self.kernel_file(), name, self.dtype)

    @classmethod
    def kernel_file(cls) -> str:
        """The stem of the `.cu` file: that of the module that defines the type, for an engine's variant too."""
        module = own_class(cls).__module__
        return module.removeprefix("minicaffe.layers.").removeprefix("shared.").replace(".", "/")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        before = [blob.signature for blob in top]
        try:
            self.reshape(bottom, top)
        except BaseException:
            for blob, signature in zip(top, before):
                blob.restore(signature)
            raise

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Put the layer's name before errors that helpers raised without it."""
        try:
            yield
        except (BlobError, LayerError) as error:
            if printable_line(f"layer '{self.name}'") in str(error):
                raise
            raise self.error(str(error)) from error
        except MemoryError as error:
            raise self.no_room(error) from error

    def _set_up(self, bottom: Sequence[Blob], top: Sequence[Blob], filled: bool) -> None:
        self._check_counts(bottom, top)
        self.setup(bottom, top)
        self._make_blobs(bottom, filled)
        self._reshape(bottom, top)

    def _check_counts(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for kind, blobs in (("bottom", bottom), ("top", top)):
            got = len(blobs)
            for limit, holds in (("exact_num", int.__eq__), ("min", int.__ge__), ("max", int.__le__)):
                expected = getattr(self, f"{limit}_{kind}")
                if expected is not None and not holds(got, expected):
                    words = {"exact_num": "", "min": "at least ", "max": "at most "}[limit]
                    raise self.error(f"takes {words}{expected} {kind} blob(s), got {got}")
        if self.equal_num_bottom_top and len(bottom) != len(top):
            raise self.error(f"takes as many tops as bottoms, got {len(bottom)} bottom(s) and {len(top)} top(s)")
        if not self.in_place:
            for i, blob in enumerate(top):
                if any(blob is b for b in bottom):
                    name = f" on blob '{self.layer_param.top[i]}'" if i < len(self.layer_param.top) else ""
                    raise self.error(f"cannot work in place{name}: give its top another name than its bottom")

    def _make_blobs(self, bottom: Sequence[Blob], filled: bool) -> None:
        """Make the learned parameters, unless a net copied or shared them in before; `filled`: by their fillers."""
        shapes = self.param_shapes([b.shape for b in bottom])
        if not self.blobs:
            for shape, filler_param in shapes:
                blob = Blob(shape, self.dtype)
                if filled:
                    fill(blob, filler_param, self.rng.generator())
                self.blobs.append(blob)
        self.param_propagate_down = [True] * len(self.blobs)

    def _set_loss_weights(self, top: Sequence[Blob]) -> None:
        given = list(self.layer_param.loss_weight)
        if given and len(given) != len(top):
            raise self.error(f"loss_weight must be given once per top or not at all: {len(top)} top(s), got {given}")
        self.loss_weights = given or [self.default_loss_weight(i) for i in range(len(top))]
        self.has_loss = any(self.loss_weights)
        if self.has_loss:
            self._fill_loss_diffs(top)

    def _fill_loss_diffs(self, top: Sequence[Blob]) -> None:
        """Write each loss weight to its top's diff, where backward reads it."""
        for weight, blob in zip(self.loss_weights, top):
            if weight:
                blob.diff[...] = weight
        self._loss_counts = [blob.count for blob in top]


def own_class(cls: type[Layer]) -> type[Layer]:
    """The class that the file of a layer's type registers: `cls`, or the one of which `cls` is an engine's variant."""
    if cls.engine == Layer.engine:
        return cls
    layers = (base for base in cls.__mro__ if issubclass(base, Layer) and vars(base).get("type") == cls.type)
    return next((base for base in layers if base.engine == Layer.engine), cls)


def _signature(bottom: Sequence[Blob], top: Sequence[Blob]) -> list:
    return [blob.signature for blob in (*bottom, *top)]
