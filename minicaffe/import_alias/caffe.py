"""Resolve `import caffe` in child processes of a script: `run_as_caffe` puts this folder on their PYTHONPATH."""

from minicaffe import run_as_caffe

run_as_caffe.replace("caffe")
