"""A contestant's process, and the end of it that a benchmark holds.

A process each, because two OpenMP runtimes in one would get in each other's way.  It answers ("build", net, training),
("run", ...) and whatever else its contestant has a method for; whatever goes wrong comes back as the text of the error,
and the others go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

#: commands that are about the net of the last "build"
_ABOUT_A_NET = ("run", "run_for", "profile", "peak")


class Process:
    """A contestant in a process of its own, which is restarted if it has ended.

    name: one of contestants.CPU or contestants.GPU; args: what its class takes beside the variant;
    patience: by command, the seconds to wait for an answer; environment: variables that the process starts with
    """

    def __init__(
        self,
        name: str,
        table: dict,
        *args: Any,
        patience: dict[str, float] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        kind, variant = table[name][:2]
        self.name, self.kind, self.patience, self.environment = name, kind, patience or {}, environment or {}
        self._args = (kind, variant, *args)
        self.process: Any = None

    def send(self, *command: Any) -> None:
        if self.process is None or not self.process.is_alive():
            if command[0] in _ABOUT_A_NET:
                raise RuntimeError("its process has ended")  # and with it the net
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs, *self._args), daemon=True)
            with environment(self.environment):
                self.process.start()
            theirs.close()
        self.asked = command[0]
        try:
            self.pipe.send(command)
        except OSError as error:
            raise RuntimeError(f"the process ended before {self.asked}") from error

    def begin(self, *command: Any) -> None:
        """Like `send`, but a failure is raised by `receive`."""
        try:
            self.send(*command)
        except RuntimeError:
            self.end()

    def receive(self) -> tuple[Any, float]:
        """Return (answer, seconds); raise the RuntimeError that occurred in the process."""
        if self.process is None:
            raise RuntimeError("its process has ended")
        patience = self.patience.get(self.asked)
        try:
            if not self.pipe.poll(patience):
                self.end()
                raise RuntimeError(f"no answer to {self.asked} after {patience} s")
            answer, seconds = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.end()
            raise RuntimeError(f"the process ended during {self.asked}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer, seconds

    def ask(self, *command: Any) -> Any:
        self.send(*command)
        return self.receive()[0]

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join(10)
            self.process = None


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started in the `with` block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def serve(pipe: Any, kind: Any, *args: Any) -> None:
    """Main function of a process: make the contestant, then execute commands until the pipe is closed."""
    warnings.simplefilter("ignore")
    contestant = None
    while True:
        try:
            command, *values = pipe.recv()
        except EOFError:
            return
        began = time.perf_counter()
        try:
            contestant = contestant or kind(*args)
            if command == "build":
                from minicaffe.proto import caffe_pb2

                values[0] = caffe_pb2.NetParameter.FromString(values[0])
            answer = getattr(contestant, command)(*values)
            pipe.send((answer, time.perf_counter() - began))
        except Exception as error:  # the table lists the errors of contestants that cannot run
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).strip().splitlines() or [""]
            line = f"{type(error).__name__}: {text[0][:200]} ({os.path.basename(where.filename)}:{where.lineno})"
            pipe.send((RuntimeError(line), 0.0))
