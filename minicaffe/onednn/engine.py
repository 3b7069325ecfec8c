"""The oneDNN engine: variants of layers that compute by oneDNN's primitives, on blobs in its layouts."""

from __future__ import annotations

import numpy as np

from minicaffe.core.engine import NUMPY, Engine, add_engine
from minicaffe.onednn import library
from minicaffe.onednn.layouts import LAYOUTS


class OneDNN(Engine):
    """Takes part in the passes of the CPU, for layers in float32.

    runtime: the library, its threads, and the descriptors and primitives in use.
    """

    name, base, place = "ONEDNN", NUMPY, LAYOUTS
    runtime = library.RUNTIME
    default = True
    aliases = ("MKLDNN", "MKL2017")

    def reason(self) -> str:
        return self.runtime.reason() or ""

    def lacks(self, precision: str) -> str:
        if precision == "float32" or self.runtime.has_bf16():
            return ""
        return "this processor has neither AVX512_BF16 nor AMX"

    def set_threads(self, count: int) -> None:
        self.runtime.renew_locals()

    def takes(self, dtype: np.dtype) -> bool:
        return dtype == np.float32 and self.available()


ONEDNN = add_engine(OneDNN())
