"""Resolve `import caffe` in child processes of a script: `run_as_caffe` puts this folder on their PYTHONPATH."""

import sys

from minicaffe import run_as_caffe

sys.modules.pop("caffe", None)  # remove this module, so that `install` can register minicaffe under the name
run_as_caffe.install()
