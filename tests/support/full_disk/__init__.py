"""Commands on a disk that is full: what they leave behind, and what they print.

`commands` lists the commands that write files and makes what they read; `trial` runs one of them with little room and
judges the result.  `python tools/full_disk.py` runs all of them on a small file system that it mounts;
tests/cli/test_full_disk.py runs some with a limit on the size of files.
"""
