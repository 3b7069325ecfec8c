"""The command line: `minicaffe <action> <flags>`, or `python -m minicaffe`.

One file per action.  command.py says what an action is, entry.py finds and runs it, progress.py prints the log and the
status line.
"""

from minicaffe.cli.entry import main

__all__ = ["main"]
