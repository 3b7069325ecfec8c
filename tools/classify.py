#!/usr/bin/env python
"""Predict the classes of images.

    python tools/classify.py IN OUT --model_def PROTOTXT --pretrained_model WEIGHTS ...

The same as `minicaffe classify`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["classify", *sys.argv[1:]]))
