"""Answers `import caffe` in the processes that a script starts: `run_as_caffe` puts this folder on their path."""

import sys

from minicaffe import run_as_caffe

sys.modules.pop("caffe", None)  # this module makes way for what it stands for
run_as_caffe.install()
