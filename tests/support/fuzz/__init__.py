"""Fuzzing of everything that reads a file: damaged and hostile files of every kind, and what becomes of them.

`kind` is what a kind of file consists of, `mutate` changes valid files, `worker` reads them in a process of its own.
`python tools/fuzz.py` runs them for as long as wanted; tests/fuzz runs a few, and all that were found to fail.
"""
