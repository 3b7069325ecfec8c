#!/usr/bin/env python
"""Convert CIFAR-10's batch files to databases.

    python tools/convert_cifar_data.py INPUT_FOLDER OUTPUT_FOLDER DB_TYPE

The same as `minicaffe convert_cifar_data`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["convert_cifar_data", *sys.argv[1:]]))
