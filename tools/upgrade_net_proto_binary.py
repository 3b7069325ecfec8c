#!/usr/bin/env python
"""Upgrade a binary net, such as a .caffemodel, to the current format.

Usage:

    python tools/upgrade_net_proto_binary.py IN OUT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.proto.convert import run, upgrade_net_proto_binary  # noqa: E402  (needs the line above)

if __name__ == "__main__":
    sys.exit(run(upgrade_net_proto_binary))
