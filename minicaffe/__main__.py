"""Entry point of `python -m minicaffe`, equivalent to the command `minicaffe`."""

import sys

from minicaffe.cli import main

sys.exit(main())
