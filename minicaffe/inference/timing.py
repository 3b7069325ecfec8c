"""Images per second and the latency of batches."""

from __future__ import annotations

import time

import numpy as np

_PERCENTILES = (50, 95, 99)


class Timing:
    """The times of a run over many batches; it begins when the object is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.images = 0
        self._net: list[float] = []
        self._whole: list[float] = []

    def add(self, images: int, net: float, whole: float) -> None:
        """Count a batch: its number of images, and seconds in the net and from its first image to its last row."""
        self.images += images
        self._net.append(net)
        self._whole.append(whole)

    @property
    def rate(self) -> float:
        """Images per second, from the beginning until now."""
        return self.images / max(time.perf_counter() - self._began, 1e-9)

    def text(self) -> str:
        """Return the times in words, in two lines."""
        seconds, rate = time.perf_counter() - self._began, self.rate
        lines = [f"{self.images} image{'s' * (self.images != 1)} in {seconds:.2f} s: {rate:,.1f} images/s"]
        if self._net:
            heads = ", ".join(f"p{percentile}" for percentile in _PERCENTILES)
            lines.append(f"a batch, {heads}: net {_milliseconds(self._net)}; end to end {_milliseconds(self._whole)}")
        return "\n".join(lines)


def _milliseconds(seconds: list[float]) -> str:
    return ", ".join(f"{1000 * value:.1f}" for value in np.percentile(seconds, _PERCENTILES)) + " ms"
