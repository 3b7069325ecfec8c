"""Event files for TensorBoard, which need not be installed: scalars, and histograms of weights and gradients.

A file is a sequence of records: length, its checksum, an Event message, its checksum (TFRecord, masked crc32c).  The
fields of Event that are used are encoded here: wall_time 1, step 2, file_version 3, summary 5 { value 1 { tag 1,
simple_value 2, histo 5 { min 1, max 2, num 3, sum 4, sum_squares 5, bucket_limit 6, bucket 7 } } }
(tensorboard/compat/proto/event.proto and summary.proto).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.cli.outputs import AppendedFile
from minicaffe.data.crc32c import crc32c, masked
from minicaffe.errors import UsageError
from minicaffe.text import printable
from minicaffe.varint import varint

_BUCKETS = 64  #: of a histogram
_MOST_VALUES = 1 << 20  #: of a parameter that a histogram counts; of more, values at equal distances


class EventWriter:
    """Observer of a solver that writes `events.out.tfevents.<time>.<host>.<pid>` into a folder.

    Scalars: train/loss, train/<output> and train/learning_rate at each display; test/<output> (test<i>/<output> for
    further test nets) at each test.  Records are not buffered, so the curves can be viewed during training.  A context
    manager: DataError at its end if a record could not be written (`minicaffe.cli.outputs`).

    histograms: also write, at each display, histograms of each parameter and its gradient, weights/<layer>/<index> and
        gradients/<layer>/<index>, and the L2 norms of the gradients as scalars, gradient_norm/<layer>/<index> and
        train/gradient_norm of all (default False).  Gradients are those of the batch, before they are averaged over
        ranks, clipped and regularised.
    UsageError when the file cannot be created.
    """

    def __init__(self, folder: str | os.PathLike, histograms: bool = False) -> None:
        self.reads_gradients = histograms  #: at displays; a GPU runs these iterations without a CUDA graph
        self.path = os.path.join(folder, f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}")
        try:
            os.makedirs(folder, exist_ok=True)
            self._file = AppendedFile(self.path, f"the events '{self.path}'")
        except OSError as error:
            raise UsageError(f"--tensorboard: cannot write into '{folder}': {error.strerror}") from None
        self._write(_event(0, version="brain.Event:2"))

    def on_display(self, solver: Any, loss: float, outputs: dict[str, list[float]]) -> None:
        """Called at each display: write the smoothed loss, the train net's outputs and the learning rate."""
        scalars = {"train/loss": loss, "train/learning_rate": solver.lr}
        self.add(solver.iter, {**_named("train", outputs), **scalars})
        if self.reads_gradients:
            self._add_parameters(solver)

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: write the mean outputs of the test net."""
        self.add(solver.iter, _named(f"test{net_id}" if net_id else "test", scores))

    def add(self, step: int, scalars: dict[str, float], histograms: dict[str, np.ndarray] | None = None) -> None:
        """Write one record with a value for each tag of `scalars`, and a histogram for each of `histograms`."""
        self._write(_event(step, scalars, histograms or {}))

    def _add_parameters(self, solver: Any) -> None:
        scalars, histograms, square = {}, {}, 0.0
        for name, blob, lr_mult in _parameters(solver.net):
            histograms[f"weights/{name}"] = blob.read_data()
            if lr_mult:
                gradient = blob.read_diff() / solver.iter_size
                histograms[f"gradients/{name}"] = gradient
                norm = float(np.linalg.norm(gradient.ravel().astype(np.float64)))
                scalars[f"gradient_norm/{name}"] = norm
                square += norm * norm
        self.add(solver.iter, {**scalars, "train/gradient_norm": square**0.5}, histograms)

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._file.close()
        if kind is None:
            self._file.check()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        checksums = [struct.pack("<I", masked(crc)) for crc in crc32c([length, event])]
        self._file.write(length + checksums[0] + event + checksums[1])


def _named(prefix: str, outputs: dict[str, list[float]]) -> dict[str, float]:
    """Return values by tag: "<prefix>/accuracy" for a blob of one value, "<prefix>/score_0", ... for several."""
    return {
        f"{prefix}/{name}" if len(values) == 1 else f"{prefix}/{name}_{i}": value
        for name, values in outputs.items()
        for i, value in enumerate(values)
    }


def _parameters(net: Any) -> Iterator[tuple[str, Any, float]]:
    """Yield name, blob and lr_mult of each learnable parameter; a shared one by the layer that has it first."""
    names: dict[int, str] = {}
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            names.setdefault(id(blob.data_memory), f"{layer}/{i}")
    for blob, lr_mult in zip(net.learnable_params, net.lr_mults):
        yield names[id(blob.data_memory)], blob, lr_mult


def _event(
    step: int,
    scalars: dict[str, float] | None = None,
    histograms: dict[str, np.ndarray] | None = None,
    version: str = "",
) -> bytes:
    message = b"\x09" + struct.pack("<d", time.time()) + b"\x10" + varint(step)
    if version:
        message += _field(3, version.encode())
    values = [(tag, b"\x15" + struct.pack("<f", value)) for tag, value in (scalars or {}).items()]
    values += [(tag, _histogram(numbers)) for tag, numbers in (histograms or {}).items()]
    if values:
        message += _field(5, b"".join(_field(1, _field(1, printable(tag).encode()) + value) for tag, value in values))
    return message


def _histogram(values: np.ndarray) -> bytes:
    """Encode the histogram of the finite values, or of a part of them, as a field `histo`; an empty one for none."""
    flat = values.ravel()
    flat = flat[:: -(-flat.size // _MOST_VALUES) or 1].astype(np.float64)
    flat = flat[np.isfinite(flat)]
    ends = (flat.min(), flat.max()) if flat.size else (0.0, 0.0)
    divisible = ends[1] - ends[0] > 2 * _BUCKETS * np.spacing(max(map(abs, ends)))
    counts, edges = np.histogram(flat, _BUCKETS) if divisible else (np.array([flat.size]), np.array(ends))
    numbers = (*ends, flat.size, flat.sum(), np.square(flat).sum())
    message = b"".join(bytes([field << 3 | 1]) + struct.pack("<d", number) for field, number in enumerate(numbers, 1))
    limits, buckets = edges[1:].astype("<f8"), counts.astype("<f8")
    return _field(5, message + _field(6, limits.tobytes()) + _field(7, buckets.tobytes()))


def _field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content
