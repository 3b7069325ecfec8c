#!/usr/bin/env python
"""Whiten or standardise the images of a database.

    python tools/whiten.py DB FILE [flags]

The same as `minicaffe whiten`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["whiten", *sys.argv[1:]]))
