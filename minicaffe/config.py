"""What holds for the whole process: CPU or GPU, which device, which CPU engine.

Caffe keeps these in `Caffe::Get()`; scripts change them through `set_mode_cpu`, `set_mode_gpu`, `set_device`
and, new here, `set_engine`.
"""

from __future__ import annotations

from minicaffe.errors import UsageError

ENGINES = ("DEFAULT", "CAFFE", "ONEDNN", "CUDNN")


class Config:
    """The process-wide state; `config` below is the only instance."""

    def __init__(self) -> None:
        self.gpu = False
        self.device = 0
        self.engine = "DEFAULT"


config = Config()


def set_mode_cpu() -> None:
    """Run every layer's CPU path from now on."""
    config.gpu = False


def set_mode_gpu() -> None:
    """Run every layer's GPU path from now on (layers without one run on the CPU).

    Raises `DeviceError` when there is no PyCUDA or no CUDA device, naming which.
    """
    from minicaffe.cuda import context

    context.require(config.device)
    config.gpu = True


def set_device(device_id: int) -> None:
    """Choose the CUDA device, by number, that `set_mode_gpu` uses."""
    config.device = int(device_id)
    if config.gpu:
        set_mode_gpu()


def set_engine(engine: str) -> None:
    """Choose the engine of nets built from now on, over what their prototxts say.

    engine: "DEFAULT" (the prototxt's `engine` field, else the fastest that is installed), "CAFFE" (our own numpy
    and CUDA code), "ONEDNN" or "CUDNN".
    """
    if engine not in ENGINES:
        raise UsageError(f"set_engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    config.engine = engine
