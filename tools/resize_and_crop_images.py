#!/usr/bin/env python
"""Scale images to one side length and crop their centres.

    python tools/resize_and_crop_images.py --input LIST --output_folder DIR ...

The same as `minicaffe resize_and_crop_images`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["resize_and_crop_images", *sys.argv[1:]]))
