"""Upgrade messages of old versions and of forks to the current format, which the rest of minicaffe reads.

Each step is a pair of functions on a NetParameter: whether the step is needed, and the step itself.  Steps modify the
net in place, because weights can be large.
"""

from __future__ import annotations

import logging
import os

from minicaffe.errors import PrototxtError
from minicaffe.proto import upgrade_forks, upgrade_intel, upgrade_renamed, upgrade_v0, upgrade_v1
from minicaffe.proto.caffe_pb2 import NetParameter, SolverParameter

log = logging.getLogger("minicaffe")

# In order of application: name for the log, test whether the step is needed, the step.
NET_STEPS = (
    ("V0 layers", upgrade_v0.needs_v0_upgrade, upgrade_v0.upgrade_v0),
    ("transformation fields outside transform_param", upgrade_v1.needs_data_upgrade, upgrade_v1.upgrade_data),
    ("V1 layers", upgrade_v1.needs_v1_upgrade, upgrade_v1.upgrade_v1),
    ("input fields", upgrade_v1.needs_input_upgrade, upgrade_v1.upgrade_input),
    ("fields and types with another name", upgrade_renamed.needs_names_upgrade, upgrade_renamed.upgrade_names),
    ("raw blobs", upgrade_forks.needs_raw_upgrade, upgrade_forks.upgrade_raw),
    ("BatchNorm blobs of shape 1xCx1x1", upgrade_forks.needs_flat_upgrade, upgrade_forks.upgrade_flat),
    ("BatchNorm layers with filler", upgrade_intel.needs_batch_norm_upgrade, upgrade_intel.upgrade_batch_norm),
    ("layers with a ReLU of their own", upgrade_intel.needs_relu_upgrade, upgrade_intel.upgrade_relu),
    ("Concat layers of permuted maps", upgrade_intel.needs_concat_upgrade, upgrade_intel.upgrade_concat),
    ("BatchNorm layers with scale and shift", upgrade_forks.needs_scale_upgrade, upgrade_forks.upgrade_scale),
    ("convolutions with holes", upgrade_renamed.needs_hole_upgrade, upgrade_renamed.upgrade_hole),
    ("losses and crops of nets for edges", upgrade_renamed.needs_edge_upgrade, upgrade_renamed.upgrade_edges),
    ("BatchNorm layers with learning rates", upgrade_v1.needs_batch_norm_upgrade, upgrade_v1.upgrade_batch_norm),
    ("Eltwise layers with one bottom", upgrade_renamed.needs_factor_upgrade, upgrade_renamed.upgrade_factor),
    ("Warp layers with positions", upgrade_renamed.needs_positions_upgrade, upgrade_renamed.upgrade_positions),
)

SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def upgrade_net(net: NetParameter, source: str | os.PathLike = "net") -> NetParameter:
    """Upgrade `net` in place and return it; log the steps applied, in one line.

    net: a NetParameter as read from a prototxt or a weight file.
    source: its file, for the log and for errors (default "net").
    PrototxtError for a net that cannot be upgraded, for example with both `layer` and `layers`.
    """
    source, done = os.fspath(source), []
    try:
        for name, needed, step in NET_STEPS:
            if needed(net):
                step(net)
                done.append(name)
    except PrototxtError as error:
        raise PrototxtError(f"{source}: {error}") from None
    if done:
        log.info("%s: upgraded %s", source, ", ".join(done))
    if hints := upgrade_forks.precision_hints(net):
        log.info("%s: %s only tune the original fork and have no effect here", source, ", ".join(hints))
    if unused := upgrade_forks.unused_fields(net):
        log.warning("%s: %s are a fork's and not applied", source, ", ".join(unused))
    if stray := upgrade_v1.stray_fields(net):
        log.warning("%s: %s have no effect outside transform_param", source, ", ".join(stray))
    return net


def needs_net_upgrade(net: NetParameter) -> bool:
    """Whether `upgrade_net` would change the net."""
    return any(needed(net) for _, needed, _ in NET_STEPS)


def upgrade_solver(solver: SolverParameter, source: str | os.PathLike | None = None) -> SolverParameter:
    """Upgrade `solver` and the nets inside it in place, and return it.

    solver_type is converted to type.
    source: the path of the solver; None (default): none.  With a path, a missing snapshot_prefix is set to the path
        without its extension, and to one that is a directory the file's stem is appended.
    PrototxtError when both solver_type and type are given, and as for `upgrade_net`.
    """
    name = os.fspath(source) if source else "solver"
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise PrototxtError(f"{name}: expected either type or the older solver_type, got both")
        solver.type = SOLVER_TYPES[SolverParameter.SolverType.Name(solver.solver_type)]
        solver.ClearField("solver_type")
        log.info('%s: upgraded solver_type to type: "%s"', name, solver.type)
    for field in ("net_param", "train_net_param"):
        if solver.HasField(field):
            upgrade_net(getattr(solver, field), f"{name}: {field}")
    for net in solver.test_net_param:
        upgrade_net(net, f"{name}: test_net_param")
    if unused := upgrade_forks.unused_solver_fields(solver):
        log.warning("%s: %s are a fork's and not applied", name, ", ".join(unused))
    if source:
        _complete_snapshot_prefix(solver, name)
    return solver


def _complete_snapshot_prefix(solver: SolverParameter, source: str) -> None:
    stem = os.path.splitext(source)[0]
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = stem
        log.info("%s: snapshot_prefix is not given, taking %s", source, stem)
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(stem))
        log.info("%s: snapshot_prefix is a directory, taking %s", source, solver.snapshot_prefix)
