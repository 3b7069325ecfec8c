"""Helpers of several test files.

engines.py      the engines that tests run on, and which tests compute something of an engine
references.py   layers as plain loops
golden.py       the cases that the original Caffe computed
nets.py         nets and solvers from text
readers.py      databases of images, and layers that read
"""
