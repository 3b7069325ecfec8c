"""The base of classes of this package that a Python layer runs in place of those of a well-known project."""

from __future__ import annotations

from minicaffe.core.layer import Layer


class PythonPart(Layer):
    """A class with the methods that pycaffe asks for: `setup`, `forward`, and `backward`, which has no gradient.

    Its attributes `param_str`, `phase`, `name` and `rng` are those of the Python layer, as for a user's class.
    """

    param_str = ""

    def reshape(self, bottom, top):
        """Nothing: `forward` gives the tops their shapes, which depend on values."""

    def backward(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff = 0

    def position(self) -> dict:
        """Return what a resumed run needs beyond the random stream."""
        return {}

    def seek(self, state: dict) -> None:
        """Restore a position that is part of `state`; SnapshotError for what is none."""

    def check_counts(self, bottom, top, bottoms: int, tops: tuple[int, ...]) -> None:
        """Raise LayerError unless there are `bottoms` bottoms and one of the numbers `tops` of tops."""
        if len(bottom) < bottoms or len(top) not in tops:
            raise self.error(
                f"takes {bottoms} bottoms and {' or '.join(map(str, tops))} tops, got {len(bottom)} and {len(top)}"
            )
