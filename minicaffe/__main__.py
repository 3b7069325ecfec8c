"""`python -m minicaffe` is the command `minicaffe`."""

import sys

from minicaffe.cli import main

sys.exit(main())
