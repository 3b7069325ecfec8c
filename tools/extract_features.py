#!/usr/bin/env python
"""Run data through a net and store the values of its blobs in databases.

    python tools/extract_features.py WEIGHTS NET BLOBS DBS BATCHES DB_TYPE [CPU|GPU] [DEVICE_ID]

The same as `minicaffe extract_features`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["extract_features", *sys.argv[1:]]))
