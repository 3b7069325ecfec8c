"""Names of nets, layers and blobs with control characters, in the output of every command that shows them."""

import contextlib
import io
import json
import re
from xml.etree import ElementTree

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.cli import main
from minicaffe.errors import DataError

#: All but newline and tab; marks that change the direction of text; what UTF-8 cannot encode.
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NET = """
name: {0}
layer {{ name: {1} type: "Input" top: {2} input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: {3} type: "InnerProduct" bottom: {2} top: {4} param {{ name: {5} }}
         inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: {4} top: {4} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: {4} bottom: {4} top: {6} loss_weight: 1 }}
"""
LOG = "I0804 10:22:42.0 1 s.cpp:1] Solving {0}\nI0804 10:22:42.0 1 s.cpp:1] Iteration 1, loss = 0.5\n" + "".join(
    f"I0804 10:22:42.0 1 s.cpp:1]     Train net output #{i}: {{{i}}} = 0.5 (* 1 = 0.5 loss)\n" for i in range(7)
)
HOSTILE = ["\x1b[31mred", "\x07bell", "a\rb", "\u202etxt", "\x9b2J", "=cmd|' /C calc'!A0", "a\nminicaffe: done"]
ODD = ["<b>&\"'", "]]>", "$x_{", "\ufffe", "\U0001f600", "\udcff", "\u0085", "\t@x"]


def _examples():
    plain = ["net", "data", "x", "ip", "y", "w", "loss"]
    each = [[*plain[:i], name, *plain[i + 1 :]] for i in range(7) for name in ("\x1b[31mred", "\u202e")]
    return [json.dumps(names).encode() for names in (plain, HOSTILE, *each)]


def _change(rng, content):
    names = json.loads(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(names)))
        part = mutate.pick(rng, [*HOSTILE, *ODD, *mutate.TEXTS, chr(int(rng.integers(0x3000)))])
        names[at] = part if rng.random() < 0.5 else names[at] + part
    return json.dumps(names).encode()


def _case(content):
    names = json.loads(content)
    quoted = ['"' + "".join(f"\\{byte:03o}" for byte in name.encode("utf-8", "surrogatepass")) + '"' for name in names]
    files = {
        "net.prototxt": NET.format(*quoted).encode(),
        "x.log": LOG.format(*names).encode("utf-8", "surrogateescape"),
    }
    return Case(files, [_summarize, _draw, _time, _parse_log])


def _summarize():
    _run("summarize", "net.prototxt")


def _draw():
    _run("draw", "net.prototxt", "net.svg")
    ElementTree.parse("net.svg")
    _check(_content("net.svg"))


def _time():
    _run("time", "--model", "net.prototxt", "--iterations", "1")


def _parse_log():
    _run("parse_log", "x.log", ".")
    _check(_content("x.log.train"))


def _run(*words):
    """Run a command line; AssertionError when its output has a control character, DataError when it fails."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(list(words))
    _check(output.getvalue() + errors.getvalue())
    if status:
        sentence = errors.getvalue().rpartition("minicaffe: ")[2].strip()
        raise DataError(sentence.replace("\n", " "))


def _check(text):
    found = CONTROL.search(text)
    assert not found, f"control character in {text[max(found.start() - 60, 0) : found.end() + 20]!r}"


def _content(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


names = Kind("names", _examples, _case, _change)
