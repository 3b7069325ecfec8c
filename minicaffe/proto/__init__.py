"""The schema of Caffe's files, and how they are read, upgraded and written."""
from minicaffe.proto import caffe_pb2

__all__ = ["caffe_pb2"]
