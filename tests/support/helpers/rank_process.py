"""A rank as a process of its own, for what ranks as threads (ranks.py) cannot share: a GPU's stream, a kill.

`Processes` starts some, which wait for work: functions of a test module.  As a program, this module is such a process.
"""

from __future__ import annotations

import base64
import faulthandler
import importlib.util
import os
import pickle
import subprocess
import sys
import traceback

from minicaffe.parallel.sockets import free_address


class Failed(AssertionError):
    """The function of a rank has raised; the message is its traceback."""


class Processes:
    """`size` processes, each with a GPU and with PyCUDA's memory unpooled, so that the emulated device finds errors."""

    def __init__(self, size: int) -> None:
        paths = [os.getcwd(), os.path.dirname(os.path.dirname(__file__)), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MINICAFFE_DEVICE_POOL": "0"}
        environment["EMU_DEVICES"] = str(size)
        command = [sys.executable, "-m", "helpers.rank_process"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.ranks = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(size)]

    def run(self, function, *arguments, **options):
        """Return [function(group, *arguments, **options) of rank 0, of rank 1, ...]; raise Failed if one raises."""
        self.begin(function, *arguments, **options)
        results = [self.result(rank) for rank in range(len(self.ranks))]
        for result in results:
            if isinstance(result, str) and result.startswith("Traceback"):
                raise Failed(result)
        return results

    def begin(self, function, *arguments, **options):
        """Let each rank call the function."""
        address, path = free_address(), sys.modules[function.__module__].__file__
        for rank, process in enumerate(self.ranks):
            work = path, function.__name__, arguments, options, address, rank, len(self.ranks)
            print(base64.b64encode(pickle.dumps(work)).decode(), file=process.stdin, flush=True)

    def result(self, rank):
        """Wait for what the function of one rank returns: its traceback if it raises, None if the process ends."""
        line = self.ranks[rank].stdout.readline()
        return pickle.loads(base64.b64decode(line)) if line else None

    def close(self):
        """End the processes; return their statuses."""
        for process in self.ranks:
            process.stdin.close()
            process.stdout.close()
        return [process.wait() for process in self.ranks]


def _call(path, name, arguments, options, address, rank, size):
    from minicaffe import parallel
    from minicaffe.parallel.sockets import SocketGroup

    spec = importlib.util.spec_from_file_location("work", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    faulthandler.dump_traceback_later(180, exit=True)  # so that a hang is an error
    try:
        parallel.start(SocketGroup(address, rank, size, timeout=60))
        return getattr(module, name)(parallel.current(), *arguments, **options)
    except BaseException:
        return traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
        parallel.stop()


def main():
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a test prints is not a result
    for line in sys.stdin:
        result = _call(*pickle.loads(base64.b64decode(line)))
        print(base64.b64encode(pickle.dumps(result)).decode(), file=results, flush=True)


if __name__ == "__main__":
    main()
