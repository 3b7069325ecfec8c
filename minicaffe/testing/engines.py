"""The engines that tests run on: which there are, how to choose one, and which layer types each has variants of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minicaffe import cuda, onednn
from minicaffe.core.layer import Layer
from minicaffe.core.registry import layer_class
from minicaffe.core.settings import restored, set_engine, set_mode_cpu, set_mode_gpu
from minicaffe.cuda import context


@contextlib.contextmanager
def computing_with(engine: str | None = None, gpu: bool | None = None, math: str | None = None) -> Iterator[None]:
    """Choose where and how this thread computes; on exit restore what was chosen before.

    engine: as `set_engine` takes it; gpu: GPU or CPU mode; math: as `minicaffe.cuda.set_math` takes it.  None leaves a
    setting as it is.
    """
    arithmetic = context.math()
    try:
        with restored():
            if gpu is not None:
                (set_mode_gpu if gpu else set_mode_cpu)()
            if engine is not None:
                set_engine(engine)
            if math is not None:
                cuda.set_math(math)
            yield
    finally:
        cuda.set_math(arithmetic)


@dataclass(frozen=True)
class EngineChoice:
    """An engine as tests choose it.

    name: in the ids of tests.  engine: as `set_engine` takes it.  gpu: whether it computes on the CUDA device.
    float64: whether it computes in float64 as well.  missing: a function that returns why the engine cannot be used on
    this machine, "" if it can.
    """

    name: str
    engine: str = "CAFFE"
    gpu: bool = False
    float64: bool = True
    missing: Callable[[], str] = str

    def computes(self, type_name: str) -> bool:
        """Whether the registry has code of this engine for a layer type; other types run numpy's code in it."""
        cls = layer_class(type_name, self.engine)
        if cls.engine != self.engine:
            return False
        kernels = cls.forward_gpu not in (Layer.forward_gpu, cls.forward_cpu)
        return not self.gpu or kernels or cls.backward_gpu not in (Layer.backward_gpu, cls.backward_cpu)

    def chosen(self) -> contextlib.AbstractContextManager[None]:
        """Within this block layers are built for, and run by, this engine."""
        return computing_with(self.engine, self.gpu)


def _no_onednn() -> str:
    return "" if onednn.available() else f"oneDNN: {onednn.reason()}"


NUMPY = EngineChoice("numpy")
ONEDNN = EngineChoice("onednn", "ONEDNN", float64=False, missing=_no_onednn)
CUDA = EngineChoice("cuda", gpu=True, missing=cuda.reason_unavailable)
