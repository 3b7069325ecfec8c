"""One of several policies, drawn with probabilities in the ratio of their `prob`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from minicaffe.errors import DataError
from minicaffe.philox import Stream

T = TypeVar("T")


class Choice(Generic[T]):
    """Policies of a transformation; a single one is always taken, whatever its `prob`.

    policies: one or more.  weights: the `prob` of each.  name: the field that is repeated, for the error.
    DataError if there are several and the weights are negative, not finite, or all 0.
    """

    def __init__(self, policies: Sequence[T], weights: Sequence[float], name: str) -> None:
        self.policies = tuple(policies)
        values = np.array(weights, np.float64)
        if len(self.policies) > 1 and not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise DataError(
                f"{name}: of several, one is drawn with probabilities in the ratio of prob, which must be 0 or more "
                f"and not all 0, got {', '.join(f'{weight:g}' for weight in weights)}"
            )
        self._ends = np.cumsum(values)

    def draw(self, rng: Stream) -> T:
        """Return one of the policies."""
        if len(self.policies) == 1:
            return self.policies[0]
        value = rng.generator().random() * self._ends[-1]
        return self.policies[int(np.searchsorted(self._ends, value, "right"))]
