#!/usr/bin/env python
"""The pairs of programs in docs/pytorch.md, run in PyTorch and in minicaffe.

    python tools/pytorch_pairs.py            # needs torch; writes tests/golden/pytorch.npz

A pair is a block marked `needs: torch` and the block marked `needs: caffe` after it.  Programs with an `optimizer` make
STEPS steps of a linear model; all others compute y, and the gradient of what they read for a given one of y.  The file
has the results of PyTorch, so that the tests compare minicaffe with them without PyTorch.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import minicaffe  # noqa: E402  (needs the line above)
from minicaffe.proto import caffe_pb2, parse_text  # noqa: E402

PAGE, RECORDED = ROOT / "docs" / "pytorch.md", ROOT / "tests" / "golden" / "pytorch.npz"
STEPS = 12
_PIECES = re.compile(
    r"^#{2,3} (?P<heading>[^\n]+)$|^<!-- needs: (?P<side>torch|caffe) -->\n```\w+\n(?P<code>.*?)^```$", re.M | re.S
)

Arrays = dict[str, np.ndarray]


class Pair(NamedTuple):
    """Two programs of the page that compute the same; name: the heading above them, and their number under it."""

    name: str
    torch: str
    caffe: str

    @property
    def trains(self) -> bool:
        return "optimizer" in self.torch


def pairs() -> list[Pair]:
    """All pairs of the page, in order."""
    found: list[Pair] = []
    heading, number, torch_code = "", 0, ""
    for piece in _PIECES.finditer(PAGE.read_text(encoding="utf-8")):
        if piece["heading"]:
            heading, number = piece["heading"], 0
        elif piece["side"] == "torch":
            torch_code = piece["code"]
        else:
            number += 1
            found.append(Pair(f"{heading} {number}", torch_code, piece["code"]))
    return found


def inputs() -> Arrays:
    """What the programs read, by name, and the weights from which trainings start."""
    rng = np.random.default_rng(1)
    arrays = {
        "x": rng.standard_normal((4, 6, 9, 9)), "s": rng.standard_normal((4, 6)), "u": rng.random((4, 6)),
        "q": rng.standard_normal((5, 4, 6)), "cont": np.repeat(np.arange(5) > 0, 4).reshape(5, 4),
        "t": rng.integers(0, 6, 4), "m": rng.integers(0, 6, (4, 9, 9)), "v": rng.standard_normal((4, 3)),
        "weight": rng.standard_normal((3, 6)), "bias": rng.standard_normal(3),
    }  # fmt: skip
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def gradient(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of a y of that shape: 1 for a loss."""
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32) if shape else np.ones((), np.float32)


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def run_torch(pair: Pair) -> Arrays:
    """Run the PyTorch program; return y, the gradients ("d:x") and the blobs of the layers; or the trained weights."""
    import torch

    torch.manual_seed(1)
    names: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    for name, array in inputs().items():
        names[name] = torch.from_numpy(array).long() if name in "tm" else torch.from_numpy(array)
    if pair.trains:
        return _train_torch(pair.torch, names)
    read = {name: names[name].requires_grad_() for name in "xsq"}
    exec(pair.torch, names)
    y = names["y"]
    if y.requires_grad:
        y.backward(torch.from_numpy(gradient(tuple(y.shape))))
    modules = [value for value in names.values() if isinstance(value, torch.nn.Module)]
    blobs = names.get("blobs") or [parameter for module in modules for parameter in module.parameters()]
    found = {f"blob:{i}": blob for i, blob in enumerate(blobs)} | {"y": y}
    found |= {f"d:{name}": tensor.grad for name, tensor in read.items() if tensor.grad is not None}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def _train_torch(code: str, names: dict[str, Any]) -> Arrays:
    weight, bias = (names[name].requires_grad_() for name in ("weight", "bias"))
    names["params"] = [weight, bias]
    names["loss"] = lambda: ((names["s"] @ weight.T + bias - names["v"]) ** 2).sum() / 8
    exec(code, names)
    for _ in range(STEPS):
        names["optimizer"].zero_grad()
        names["loss"]().backward()
        names.get("before_step", lambda: None)()
        names["optimizer"].step()
        if "scheduler" in names:
            names["scheduler"].step()
    return {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}


# -- minicaffe ---------------------------------------------------------------------------------------------------------


def run_caffe(pair: Pair, recorded: Arrays) -> Arrays:
    """Run the prototxt, with the recorded blobs as parameters; return y and the gradients, or the trained weights."""
    if pair.trains:
        return _train_caffe(pair.caffe)
    param = parse_text(pair.caffe, caffe_pb2.NetParameter())
    read = _with_inputs(param)
    net = minicaffe.Net(param, phase=minicaffe.TEST if "# phase TEST" in pair.caffe else minicaffe.TRAIN)
    for name in read:
        net.blobs[name].data[...] = inputs()[name]
    for i, blob in enumerate(blob for blobs in net.params.values() for blob in blobs):
        blob.data[...] = recorded[f"blob:{i}"].reshape(blob.data.shape)
    net.forward()
    y = net.blobs["y"].data.copy()
    names = [name for name in read if f"d:{name}" in recorded]
    if names:
        net.backward(**({"y": gradient(y.shape)} if y.shape else {}))
    return {"y": y} | {f"d:{name}": net.blobs[name].diff.copy() for name in names}


def _with_inputs(param: Any) -> list[str]:
    """Add an Input layer for each blob that no layer writes; return their names."""
    param.force_backward = True
    written = {top for layer in param.layer for top in layer.top}
    read = list(dict.fromkeys(b for layer in param.layer for b in layer.bottom if b not in written))
    layers = list(param.layer)
    del param.layer[:]
    for name in read:
        param.layer.add(name=name, type="Input", top=[name]).input_param.shape.add(dim=inputs()[name].shape)
    param.layer.extend(layers)
    return read


def _train_caffe(code: str) -> Arrays:
    solver_param = parse_text(code, caffe_pb2.SolverParameter())
    net_param = solver_param.net_param
    if not net_param.layer:
        net_param.layer.add(name="ip", type="InnerProduct", bottom=["s"], top=["y"]).inner_product_param.num_output = 3
    net_param.layer.add(name="loss", type="EuclideanLoss", bottom=["y", "v"], top=["loss"])
    read = _with_inputs(net_param)
    solver_param.max_iter = solver_param.max_iter or STEPS
    solver = minicaffe.get_solver(solver_param)
    for name in read:
        solver.net.blobs[name].data[...] = inputs()[name]
    weight, bias = solver.net.params["ip"]
    weight.data[...], bias.data[...] = inputs()["weight"], inputs()["bias"]
    solver.step(STEPS)
    return {"weight": weight.data.copy(), "bias": bias.data.copy()}


# -- the file ----------------------------------------------------------------------------------------------------------


def read_recorded() -> dict[str, Arrays]:
    """{name of a pair: PyTorch's results, and the program that gave them as "code"}."""
    found: dict[str, Arrays] = {}
    with np.load(RECORDED) as stored:
        for key in stored.files:
            name, _, kind = key.partition("/")
            found.setdefault(name, {})[kind] = stored[key]
    return found


def main() -> int:
    """Run the PyTorch programs, write the file, and print the largest difference of each pair."""
    arrays: Arrays = {}
    for pair in pairs():
        results = run_torch(pair)
        arrays |= {f"{pair.name}/{kind}": array for kind, array in results.items()}
        arrays[f"{pair.name}/code"] = np.array(pair.torch)
        own = run_caffe(pair, results)
        worst = max(float(np.abs(array - results[kind]).max()) for kind, array in own.items())
        print(f"{pair.name:32} {', '.join(own):18} {worst:.1e}")
    np.savez_compressed(RECORDED, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
