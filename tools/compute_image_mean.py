#!/usr/bin/env python
"""Compute the mean image of a database.

    python tools/compute_image_mean.py [--backend lmdb] DB [OUT]

The same as `minicaffe compute_image_mean`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["compute_image_mean", *sys.argv[1:]]))
