"""Nets as prototxt that are checked, folded and exported."""

import contextlib

from fuzz.kind import Case, Kind
from fuzz.kinds.nets import SMALL, _change_net, _limit_memory, _prototxts
from minicaffe.errors import ExportError
from minicaffe.proto import TEST, caffe_pb2, parse_text


def _use_tools(content):
    """Check the net; fold it and convert it to ONNX if it is small.

    What cannot be folded or expressed is no error here; what cannot be built is.
    """
    import minicaffe
    from minicaffe.export.fold import fold
    from minicaffe.export.onnx.model import to_model

    _limit_memory()
    net = minicaffe.Net("net.prototxt", TEST)
    solver = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", max_iter=1)
    parse_text(content, solver.net_param)
    minicaffe.check(solver, stages=["static"])
    if sum(blob.count for blob in (*net.all_blobs, *net.learnable_params)) <= SMALL:
        for tool in (fold, to_model):
            with contextlib.suppress(ExportError):
                tool(net)


def _case(content):
    return Case({"net.prototxt": content}, [lambda: _use_tools(content)])


net_tools = Kind("net_tools", _prototxts, _case, _change_net, memory=None)
