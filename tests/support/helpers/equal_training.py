"""Trainings that must be equal: several ranks with batches of B, and one process with the same records in one batch."""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

import numpy as np

import minicaffe
from minicaffe import models
from minicaffe.core.passes import filter_net
from minicaffe.core.settings import settings
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.proto import TRAIN, caffe_pb2, parse_text, read_net, read_solver

#: size of the images of models/, (C, H, W), without a border
SHAPES = {"lenet": (1, 28, 28), "cifar10_full": (3, 32, 32), "cifar10_resnet20": (3, 32, 32)}
_RULE_FIELDS = ("base_lr", "lr_policy", "gamma", "power", "stepvalue", "momentum", "weight_decay", "type")


class Trained(NamedTuple):
    """What a training leaves in a rank."""

    losses: list[float]  #: of each iteration: those of the rank's own batch
    parameters: list[np.ndarray]

    @property
    def digest(self) -> str:
        """SHA-256 of all parameters."""
        return hashlib.sha256(b"".join(each.tobytes() for each in self.parameters)).hexdigest()


class Differences(NamedTuple):
    """How far trainings differ: largest absolute difference of losses, relative one of a parameter's L2 norm."""

    losses: float
    parameters: float


def write_records(path: str | os.PathLike, name: str, count: int) -> None:
    """Write an LMDB of random images for a net of models/, brighter for a higher label (0 to 9)."""
    rng = np.random.default_rng(0)
    with open_db(path, "lmdb", "w") as database:
        for i in range(count):
            label = int(rng.integers(10))
            image = rng.integers(10 * label, 160 + 10 * label, SHAPES[name], dtype=np.uint8)
            database.put(f"{i:06d}", array_to_datum(image, label).SerializeToString())


def model_solver(name: str, source: str | os.PathLike, batch: int, **fields) -> caffe_pb2.SolverParameter:
    """The solver of a net of models/ that reads `source`, without a mean file, crops and mirrors, which are at random.

    fields: others of the SolverParameter.  With another `type` than the model's, the fields of its rule must be given.
    """
    net = read_net(os.path.join(models.folder(name), "train_test.prototxt"))
    net.state.phase = TRAIN
    net = filter_net(net)
    data = net.layer[0]
    data.data_param.source, data.data_param.batch_size = os.fspath(source), batch
    transform = data.transform_param
    if transform.HasField("mean_file"):
        transform.mean_value.append(120)
    for field in ("mean_file", "crop_size", "mirror"):
        transform.ClearField(field)
    param = caffe_pb2.SolverParameter(max_iter=10**6, random_seed=3, snapshot_after_train=False, net_param=net)
    if "type" not in fields:
        given = read_solver(os.path.join(models.folder(name), "solver.prototxt"))
        for field in _RULE_FIELDS:
            value = getattr(given, field)
            param.stepvalue.extend(value) if field == "stepvalue" else setattr(param, field, value)
    param.MergeFrom(caffe_pb2.SolverParameter(**fields))
    return param


def text_solver(net: str, **fields) -> caffe_pb2.SolverParameter:
    """The solver of a net's prototxt."""
    param = caffe_pb2.SolverParameter(
        max_iter=10**6, random_seed=3, snapshot_after_train=False, lr_policy="fixed", **fields
    )
    parse_text(net, param.net_param)
    return param


def trained(
    param: caffe_pb2.SolverParameter, updates: int, engine: str = "DEFAULT", dtype: type = np.float32, **own
) -> Trained:
    """Train in this thread, alone or as a rank.

    dtype: of the net.  own: settings of the thread, such as sync_bn=True.
    """
    for name, value in own.items():
        setattr(settings, name, value)
    minicaffe.set_engine(engine)
    solver = minicaffe.get_solver(param)
    if dtype != np.float32:
        solver.net = minicaffe.Net(param.net_param, TRAIN, dtype=dtype)
        solver.setup()
    losses: list[float] = []
    solver.observers.append(Losses(losses))
    solver.step(updates)
    return Trained(losses, [blob.read_data().copy() for blob in solver.net.learnable_params])


class Losses:
    """Observer that keeps the losses of all iterations."""

    def __init__(self, losses: list[float]) -> None:
        self._losses = losses

    def on_iteration(self, solver, loss):
        self._losses.append(loss)


def together(ranks: list[Trained]) -> Trained:
    """The ranks as one training: the means of their losses, and their parameters, which must be equal to the bit."""
    assert len({rank.digest for rank in ranks}) == 1, "the ranks' parameters differ"
    return Trained(np.mean([rank.losses for rank in ranks], axis=0).tolist(), ranks[0].parameters)


def differences(found: Trained, expected: Trained) -> Differences:
    """How far two trainings differ."""
    norms = [
        float(np.linalg.norm((a - b).ravel()) / (np.linalg.norm(b.ravel()) or 1))
        for a, b in zip(found.parameters, expected.parameters, strict=True)
    ]
    return Differences(float(np.abs(np.subtract(found.losses, expected.losses)).max()), max(norms))
