#!/usr/bin/env python
"""Write the numbers of a training log as CSV tables.

    python tools/parse_log.py LOG OUTPUT_DIR [--delimiter D] [--verbose]

The same as `minicaffe parse_log`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["parse_log", *sys.argv[1:]]))
