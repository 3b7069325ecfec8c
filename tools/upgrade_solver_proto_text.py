#!/usr/bin/env python
"""Upgrade a solver prototxt (solver_type, old nets inside it) to the current format.

Usage:

    python tools/upgrade_solver_proto_text.py IN OUT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.proto.convert import run, upgrade_solver_proto_text  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(run(upgrade_solver_proto_text))
