#!/usr/bin/env python
"""Convert a pair of MNIST's idx files to a database of pairs of images.

    python tools/convert_mnist_siamese_data.py IMAGES LABELS DB [--backend leveldb] [--seed N]

The same as `minicaffe convert_mnist_siamese_data`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["convert_mnist_siamese_data", *sys.argv[1:]]))
