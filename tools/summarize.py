#!/usr/bin/env python
"""Print a net as a table.

    python tools/summarize.py NET|SOLVER [--per_type] [--max_width N]

The same as `minicaffe summarize`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["summarize", *sys.argv[1:]]))
