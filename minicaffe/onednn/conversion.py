"""Copies of numbers from one layout into another."""

from __future__ import annotations

import ctypes
import functools
import weakref

import numpy as np

from minicaffe.core.places import observed
from minicaffe.onednn import primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import Tensor, of_array


def reorder(src: Tensor, dst: Tensor, add: bool = False) -> None:
    """Copy the numbers of `src` into `dst`, each in its own layout; with `add`, sum them onto what is there."""
    if src.desc is dst.desc and src.desc.blocked and not add:
        _copy(src, dst)
        if observed.observer is not None:
            observed.observer.ran(functools.partial(_copy, src, dst))
        return
    if dst.filled is None or dst.filled[0]() is not src or dst.filled[1] is not add:
        if add and src.desc is dst.desc:  # several times as fast as a reorder that adds
            sum_up = primitives.binary(Alg.ADD, dst.desc, src.desc, dst.desc)
            run = sum_up.bind({Arg.SRC: dst, Arg.SRC_1: src, Arg.DST: dst})
        else:
            run = primitives.reorder(src.desc, dst.desc, add).bind({Arg.SRC: src, Arg.DST: dst})
        run.memories = {}  # a reorder keeps no tensor: dst holds it, and src may be as large as dst and used only once
        dst.filled = (weakref.ref(src), add, run)
    dst.filled[2]()


def _copy(src: Tensor, dst: Tensor) -> None:
    ctypes.memmove(dst.buffer.ctypes.data, src.buffer.ctypes.data, src.desc.size)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A copy of a tensor's numbers in row-major order."""
    result = np.empty(tensor.desc.shape, np.float32)
    reorder(tensor, of_array(result))
    return result
