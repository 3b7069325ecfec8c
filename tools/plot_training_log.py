#!/usr/bin/env python
"""Draw a chart of training logs.

    python tools/plot_training_log.py TYPE OUT.png LOG...

The same as `minicaffe plot_training_log`; see --help.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(main(["plot_training_log", *sys.argv[1:]]))
