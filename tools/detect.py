#!/usr/bin/env python
"""Run windows of images through a net.

    python tools/detect.py IN OUT --model_def PROTOTXT --pretrained_model WEIGHTS ...

The same as `minicaffe detect`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]]))
