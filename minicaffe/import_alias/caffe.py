"""Resolve `import caffe` in child processes of a script: `run_as_caffe` puts this folder on their PYTHONPATH."""

from minicaffe.core import alias

alias.replace("caffe")
