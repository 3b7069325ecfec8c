"""The command line: `minicaffe <action> <flags>`, or `python -m minicaffe`.

One file per action or group of related actions.  command.py defines what an action is, entry.py finds and runs it,
progress.py prints the log above the status line.
"""

from minicaffe.cli.entry import main

__all__ = ["main"]
