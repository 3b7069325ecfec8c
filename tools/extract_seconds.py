#!/usr/bin/env python
"""Write the seconds at which a log's iterations were logged.

    python tools/extract_seconds.py LOG OUT

The same as `minicaffe extract_seconds`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["extract_seconds", *sys.argv[1:]]))
