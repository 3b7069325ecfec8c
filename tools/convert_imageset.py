#!/usr/bin/env python
"""Make a database from a list of images.

    python tools/convert_imageset.py [FLAGS] ROOT_FOLDER/ LIST DB

The same as `minicaffe convert_imageset`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["convert_imageset", *sys.argv[1:]]))
