"""Changes of a solver and its nets that a command line or a script makes between the files and the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minicaffe.errors import PrototxtError
from minicaffe.proto import read_net, upgrade_solver
from minicaffe.proto.fields import Setting, Step, set_field, value_of
from minicaffe.solvers.nets import Source

#: the field that names the file of a net, by the field that contains such a net
_FILE_FIELDS = {"net_param": "net", "train_net_param": "train_net", "test_net_param": "test_net"}


def set_fields(source: Source, settings: Sequence[Setting]) -> list[str]:
    """Set fields of a solver and its nets; return a line for each, "base_lr: 0.001 -> 0.01".

    source: of a file.  Its param is changed, and what its nets are; files stay as they are.
    settings: those of nets are applied after those of the solver, otherwise in order.  The first setting of a repeated
        field replaces its elements, further ones add to them.  A path that begins with net_param, train_net_param or
        test_net_param[i] leads to the net in that field or, if the solver has a file's name instead, to the net that is
        read from that file.
    PrototxtError for an unknown field or a wrong value, and as `read_net`; it begins with the setting.
    """
    lines: list[str] = []
    done: set[tuple[Step, ...]] = set()
    for setting in sorted(settings, key=_is_in_net):
        try:
            lines.append(f"{setting.name}: {_set(source, setting, setting.path in done)}")
        except PrototxtError as error:
            raise PrototxtError(f"{setting.name}={setting.value}: {error.args[0]}") from None
        done.add(setting.path)
    if source.param.HasField("solver_type"):
        source.param.ClearField("type")
        upgrade_solver(source.param)
    return lines


def _set(source: Source, setting: Setting, append: bool) -> str:
    """Set a field; return its values before and after."""
    message, rest = _target(source, setting)
    before = value_of(message, rest)
    set_field(message, rest, append)
    return f"{before} -> {value_of(message, rest)}"


def _is_in_net(setting: Setting) -> bool:
    """Whether a setting is one of a field of a net; one of a whole net is one of the solver."""
    return setting.path[0].field in _FILE_FIELDS and len(setting.path) > 1


def _target(source: Source, setting: Setting) -> tuple[Any, Setting]:
    """Return the message to which a setting belongs, the solver or a net of it, and the setting from there on."""
    if not _is_in_net(setting):
        return source.param, setting
    return _net_of(source, setting.path[0]), setting._replace(path=setting.path[1:])


def _net_of(source: Source, step: Step) -> Any:
    """Return the net of a field such as net_param, or that of the file which the solver names instead."""
    param, name = source.param, _FILE_FIELDS[step.field]
    if step.field == "test_net_param":  # those of test_net come after those of test_net_param
        nets: list[Any] = [*param.test_net_param, *param.test_net]
    else:
        nets = [getattr(param, field) for field in (step.field, name) if param.HasField(field)]
    index = int(step.element) if step.element.isdecimal() else 0
    if index >= len(nets):
        raise PrototxtError(f"the solver has no {step.field}{f'[{index}]' if index else ''}, and no {name} for it")
    net = nets[index]
    if not isinstance(net, str):
        return net
    if net not in source.known:
        source.known[net] = read_net(net)
    return source.known[net]
