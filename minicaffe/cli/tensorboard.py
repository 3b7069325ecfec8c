"""Event files for TensorBoard: a solver's losses, outputs and rates as scalars.  TensorBoard need not be installed.

A file is a sequence of records: length, its checksum, an Event message, its checksum (TFRecord, masked crc32c).  The
fields of Event used for scalars are encoded here: wall_time 1, step 2, file_version 3, summary 5 { value 1 { tag 1,
simple_value 2 } }.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from minicaffe.cli.outputs import AppendedFile
from minicaffe.data.crc32c import crc32c, masked
from minicaffe.errors import UsageError
from minicaffe.text import printable
from minicaffe.varint import varint


class EventWriter:
    """Observer of a solver that writes `events.out.tfevents.<time>.<host>.<pid>` into a folder.

    Scalars: train/loss, train/<output> and train/learning_rate at each display; test/<output> (test<i>/<output> for
    further test nets) at each test.  Records are not buffered, so the curves can be viewed during training.  A context
    manager: DataError at its end if a record could not be written (`minicaffe.cli.outputs`).
    UsageError when the file cannot be created.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
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

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: write the mean outputs of the test net."""
        self.add(solver.iter, _named(f"test{net_id}" if net_id else "test", scores))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Write one record with a value for each tag."""
        self._write(_event(step, scalars=scalars))

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


def _event(step: int, scalars: dict[str, float] | None = None, version: str = "") -> bytes:
    message = b"\x09" + struct.pack("<d", time.time()) + b"\x10" + varint(step)
    if version:
        message += _field(3, version.encode())
    if scalars:
        values = (
            _field(1, printable(tag).encode()) + b"\x15" + struct.pack("<f", value) for tag, value in scalars.items()
        )
        message += _field(5, b"".join(_field(1, value) for value in values))
    return message


def _field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content
