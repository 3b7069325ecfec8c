"""Nets and solvers from text."""

from __future__ import annotations

from minicaffe import TRAIN, Net, get_solver
from minicaffe.proto import caffe_pb2, parse_text


def net_from_text(text: str, phase: int = TRAIN, **options) -> Net:
    """The net of a prototxt; options as `Net` takes them."""
    return Net(parse_text(text, caffe_pb2.NetParameter()), phase=phase, **options)


def solver_from_text(text: str, net: str):
    """The solver of a solver prototxt that contains no net, and of the prototxt of its net."""
    param = parse_text(text, caffe_pb2.SolverParameter())
    parse_text(net, param.net_param)
    return get_solver(param)


def layer_text(name: str, kind: str, bottoms: str, tops: str, more: str = "") -> str:
    """The prototxt of a layer.

    bottoms, tops: names with blanks between them; more: the rest of the message.
    """
    bottom, top = ("".join(f'{field}: "{blob}" ' for blob in blobs.split()) for field, blobs in
                   (("bottom", bottoms), ("top", tops)))  # fmt: skip
    return f'layer {{ name: "{name}" type: "{kind}" {bottom}{top}{more} }}\n'
