#!/usr/bin/env python
"""Draw a net into a picture; by default all layers, from left to right.

    python tools/draw_net.py NET IMAGE [--rankdir LR] [--phase ALL] [--display_lrm]

`minicaffe draw` with the original's defaults; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["draw", "--rankdir", "LR", "--phase", "ALL", *sys.argv[1:]]))
