"""Whether a text is a net or a solver, by its fields, for messages when one is given for the other."""

from __future__ import annotations

import re

from minicaffe.proto.caffe_pb2 import NetParameter, SolverParameter

_COMMENT_OR_STRING = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""")
_TOKEN = re.compile(r"([{<])|([}>])|(\w+)(?=\s*[:{<])")
_LAYERS = {"layer", "layers"}
_NET_OF_SOLVER = re.compile(r"""\b(?:train_)?net\s*:\s*(["'])(.*?)\1""")
_OWN = set(SolverParameter.DESCRIPTOR.fields_by_name) - set(NetParameter.DESCRIPTOR.fields_by_name)


def kind_of(text: str) -> str:
    """Return "net", "solver" or "" for prototxt text, which may have errors: by the fields outside of messages."""
    depth, names = 0, set()
    for opens, closes, name in _TOKEN.findall(_COMMENT_OR_STRING.sub("", text)):
        depth += bool(opens) - bool(closes)
        if name and not depth:
            names.add(name)
    if names & _LAYERS:
        return "net"
    return "solver" if names & _OWN else ""


def mistaken_for(kind: str, text: str) -> str:
    """Return the sentence about a text of the other kind than `kind`, "net" or "solver"; "" for any other text.

    kind: "" for a message that is neither, whose texts are mistaken for none.
    """
    found = kind_of(text)
    if not kind or found in ("", kind):
        return ""
    if found == "solver":
        named = _NET_OF_SOLVER.search(text)
        return "expected a net, got a solver" + (f": its net is '{named[2]}'" if named else "")
    return "expected a solver, got a net: a solver has the fields net, base_lr, lr_policy and max_iter"
