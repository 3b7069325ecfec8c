"""Functions of a script as ranks: processes of this machine that each call one function."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from minicaffe.errors import ParallelError, UsageError
from minicaffe.parallel.joining import listen
from minicaffe.parallel.sockets import SocketGroup
from minicaffe.parallel.starting import start, stop

_HOST = "127.0.0.1"
_GRACE_SECONDS = 2.0  #: after a rank has lost another one: how long to wait for that one's own error


def run(function: Callable[..., Any], workers: int, *args: Any) -> list[Any]:
    """Call `function(group, *args)` in new processes of this machine, as the ranks of one training.

    function: of a module or of the script, whose code that starts the training stands under
        `if __name__ == "__main__":` (the processes are spawned).  Solvers that it builds train together.
    workers: the number of processes.  The arguments and results are pickled.
    Returns the results in the order of the ranks.  If a rank raises an exception or ends, all are ended:
    ParallelError, with the exception as its cause.  UsageError for fewer than one worker.
    """
    if workers < 1:
        raise UsageError(f"parallel.run: expected 1 or more workers, got {workers}")
    context = multiprocessing.get_context("spawn")
    token = secrets.token_hex(16)
    processes, results = [], []
    with listen((_HOST, 0)) as listener:
        address = listener.getsockname()
        try:
            for rank in range(workers):
                receiver, sender = context.Pipe(duplex=False)
                place = address, rank, workers, token, None if rank else listener
                process = context.Process(target=_work, args=(sender, place, function, args), daemon=True)
                process.start()
                sender.close()
                processes.append(process)
                results.append(receiver)
            return _collect(results)
        finally:
            for process in processes:
                process.terminate()
                process.join()
            for receiver in results:
                receiver.close()


def _work(sender: Connection, place: tuple, function: Callable[..., Any], args: tuple) -> None:
    """Be a rank: send (True, result), or (False, exception)."""
    address, rank, size, token, listener = place
    try:
        outcome = True, function(start(SocketGroup(address, rank, size, token, listener=listener)), *args)
    except BaseException as error:
        outcome = False, error
    try:
        sender.send(outcome)
    except Exception as error:  # what pickle raises for the result or the exception depends on their classes
        sender.send((False, TypeError(f"{outcome[1]!r} cannot be sent: {error}")))
    stop()


def _collect(receivers: list[Connection]) -> list[Any]:
    """Return the results of all ranks; raise the error of the first that fails by itself."""
    results: dict[int, Any] = {}
    lost: tuple[int, BaseException] | None = None  # a rank that has lost another one
    while len(results) < len(receivers):
        waiting = {receiver: rank for rank, receiver in enumerate(receivers) if rank not in results}
        ready = wait(list(waiting), _GRACE_SECONDS if lost else None)
        if lost and not ready:
            break
        for rank in (rank for receiver, rank in waiting.items() if receiver in ready):
            try:
                succeeded, results[rank] = receivers[rank].recv()
            except EOFError:
                raise ParallelError(f"the process of rank {rank} has ended without a result") from None
            if not succeeded and isinstance(results[rank], ParallelError):
                lost = lost or (rank, results[rank])
            elif not succeeded:
                raise _failed(rank, results[rank])
    if lost:
        raise _failed(*lost)
    return [results[rank] for rank in range(len(receivers))]


def _failed(rank: int, error: BaseException) -> ParallelError:
    failure = ParallelError(f"rank {rank} has raised {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
