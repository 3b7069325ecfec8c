"""Situations that `minicaffe check` finds: solvers with nets of a few layers, and what is found in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import minicaffe
from helpers.nets import layer_text
from minicaffe.checks.running import codes

XAVIER = 'weight_filler { type: "xavier" }'
SOLVER = 'base_lr: 0.01 lr_policy: "fixed" max_iter: 100 '
WITH_TEST = SOLVER + "test_iter: 1 test_interval: 10 "


def data(shape: str = "4 3", top: str = "data label", phase: str = "") -> str:
    """A DummyData layer: normally distributed blobs of a shape, and labels, which are 1."""
    n, *rest = shape.split()
    dims = "".join(f"dim: {each} " for each in (n, *rest))
    shapes = f'shape {{ {dims}}} data_filler {{ type: "gaussian" std: 1 }} '
    if len(top.split()) > 1:
        shapes += f"shape {{ dim: {n} }} data_filler {{ value: 1 }}"
    rule = f"include {{ phase: {phase} }} " if phase else ""
    return layer_text("data", "DummyData", "", top, f"{rule}dummy_data_param {{ {shapes}}}")


def records(name: str, top: str = "data label", transform: str = "", phase: str = "", size: int = 4) -> str:
    """A Data layer, whose source does not exist."""
    rule = f"include {{ phase: {phase} }} " if phase else ""
    more = f'{rule}transform_param {{ {transform} }} data_param {{ source: "{name}_db" batch_size: {size} }}'
    return layer_text(name, "Data", "", top, more)


def ip(name: str, bottom: str, outputs: int = 5, filler: str = XAVIER, more: str = "", top: str = "") -> str:
    """An InnerProduct with a weight_filler."""
    return layer_text(
        name, "InnerProduct", bottom, top or name, f"{more} inner_product_param {{ num_output: {outputs} {filler} }}"
    )


def softmax_loss(bottom: str, label: str = "label") -> str:
    """A SoftmaxWithLoss."""
    return layer_text("loss", "SoftmaxWithLoss", f"{bottom} {label}", "loss")


@dataclass
class Situation:
    """A solver with a net, and the code of what is wrong with it.

    about: a few words.  code: of the findings.  net: prototxt of the net.  solver: that of the solver, without the net.
    weights: {layer: shapes of its blobs} of a file to start from, whose numbers are 1; None (default): no file.
    deploy: prototxt of a deploy net; "" (default): none.
    text: what the sentence contains.  where: what the place contains.
    """

    about: str
    code: str
    net: str
    solver: str = SOLVER
    weights: dict[str, list[Any]] | None = None
    deploy: str = ""
    text: str = ""
    where: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.about}".replace(" ", "-")

    def found(self, folder: Path, stages: tuple[str, ...]) -> list[minicaffe.checks.finding.Finding]:
        """Write the files to a folder, and check them."""
        (folder / "net.prototxt").write_text(self.net)
        (folder / "solver.prototxt").write_text(f'net: "net.prototxt" {self.solver}')
        more = dict(self.options)
        if self.weights is not None:
            write_weights(folder / "start.caffemodel.h5", self.weights)
            more["weights"] = [str(folder / "start.caffemodel.h5")]
        if self.deploy:
            (folder / "deploy.prototxt").write_text(self.deploy)
            more["deploy"] = str(folder / "deploy.prototxt")
        return minicaffe.check(str(folder / "solver.prototxt"), stages=stages, **more)

    def assert_found(self, folder: Path, *stages: str) -> None:
        """Check the situation in some stages: its code is found, and no error or warning of another code."""
        found = self.found(folder, stages)
        grave = {each.code for each in found if each.level != "info"}
        level = codes()[self.code]
        assert grave == (set() if level == "info" else {self.code}), found
        own = [each for each in found if each.code == self.code]
        assert own and all(each.level == level for each in own), found
        assert any(self.text in each.text and self.where in each.where for each in own), own


def write_weights(path: Path, shapes: dict[str, list[Any]]) -> None:
    """Write a .caffemodel.h5 with blobs of given shapes that are 1, or of arrays."""
    with h5py.File(path, "w") as file:
        file.create_group("data")
        for layer, blobs in shapes.items():
            for i, blob in enumerate(blobs):
                if isinstance(blob, np.ndarray):
                    file[f"data/{layer}/{i}"] = blob
                else:
                    file.create_dataset(f"data/{layer}/{i}", blob, np.float32, fillvalue=1)
