"""The script that a rank of a team runs: it connects to the benchmark (`contestants.teams`) and executes its commands.

A command is a line of JSON, [method of `contestants.ranks`, arguments ...]; so is an answer, ["ok", value] or
["error", text].
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from typing import Any


def main(words: list[str]) -> None:
    """Be the rank that is described in JSON: {kind, variant, threads, cores, port, token}."""
    settings = json.loads(words[0])
    if settings["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings["cores"])  # before numpy and OpenMP count the cores
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:1] = [folder, os.path.dirname(folder)]
    from contestants import ranks

    contestant = ranks.KINDS[settings["kind"]](settings["variant"], settings["threads"])
    with socket.create_connection(("127.0.0.1", settings["port"])) as connection, connection.makefile("rw") as lines:
        send(lines, [settings["token"], contestant.rank])
        for line in lines:
            method, *arguments = json.loads(line)
            try:
                answer = ["ok", getattr(contestant, method)(*arguments)]
            except Exception as error:  # the benchmark lists the errors of teams that cannot run
                traceback.print_exc()
                answer = ["error", f"{type(error).__name__}: {error}"]
            send(lines, answer)


def send(lines: Any, value: Any) -> None:
    """Send a value as a line of JSON."""
    lines.write(json.dumps(value) + "\n")
    lines.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
