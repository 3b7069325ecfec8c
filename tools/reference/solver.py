"""The page of solvers: update rules, learning-rate policies, and all fields of a SolverParameter."""

from __future__ import annotations

import functools
import importlib
import inspect
import re

import minicaffe.solvers  # noqa: F401  (registers the types)
from minicaffe.solvers.lr_policy import POLICIES
from minicaffe.solvers.registry import solver_class, solver_type_list
from reference import docstrings, nets, schema
from reference.docstrings import cell

EXAMPLE = """\
net: "train_val.prototxt"
type: "Nesterov"
base_lr: 0.01  lr_policy: "step"  gamma: 0.1  stepsize: 30000
momentum: 0.9  weight_decay: 0.0005
max_iter: 90000
test_iter: 100  test_interval: 1000  display: 100
snapshot: 10000  snapshot_prefix: "snapshots/net"
"""


def page() -> list[str]:
    """The lines of docs/reference/solver.md."""
    lines = [
        "# Solvers", "",
        "A solver file names the nets, the update rule and its numbers, and when to test, to log and to write "
        "snapshots. `minicaffe train --solver FILE` and `minicaffe.get_solver(path)` read it.",
        "", "```text", *EXAMPLE.strip().split("\n"), "```",
        "", "## Types", "",
        "In all rules g is the gradient: the sum over `iter_size` batches, clipped to `clip_gradients`, divided by "
        "`iter_size`, plus `weight_decay` times `decay_mult` times w (L2) or its sign (L1). The rate is that of the "
        "policy, times `lr_mult`.",
    ]  # fmt: skip
    for name in types():
        lines += _type(name)
    return [*lines, *_policies(), *_fields()]


@functools.cache
def types() -> list[str]:
    """The types of the package, SGD first; none that a script has registered."""
    own = [name for name in solver_type_list() if solver_class(name).__module__.startswith("minicaffe.")]
    return sorted(own, key=lambda name: (name != "SGD", name))


def _type(name: str) -> list[str]:
    cls = solver_class(name)
    rule, *others = docstrings.parts(inspect.cleandoc(cls.__doc__ or ""))
    module = (importlib.import_module(cls.__module__).__doc__ or "").partition("\n")[0]
    reads = ", ".join(f"`{field}`" for field in readers() if name in readers()[field])
    path = f"solvers/{cls.__module__.rpartition('.')[2]}.py"
    return [
        "", f"### {name}", "", docstrings.escaped(module), "",
        "```text", *re.split(r";\s+", rule.text.rstrip(".")), "```",
        *docstrings.markdown([part for part in others if "subclass" not in part.text]),
        "", f"Reads {reads}. Code: [`{path}`](../../{path})",
    ]  # fmt: skip


@functools.cache
def readers() -> dict[str, list[str]]:
    """{field: types whose rule reads it}, from the source of the types' methods."""
    found: dict[str, list[str]] = {}
    for name in types():
        cls = solver_class(name)
        source = inspect.getsource(cls.update) + inspect.getsource(cls.correction)  # type: ignore[attr-defined]
        for field in dict.fromkeys(re.findall(r"\bparam\.(\w+)", source)):
            found.setdefault(field, []).append(name)
    return found


def _policies() -> list[str]:
    lines = [
        "", "## Learning-rate policies", "",
        "`it` is the iteration, from 0. With `rampup_interval` the rate rises linearly before it follows the policy.",
        "", "| `lr_policy` | Rate | Reads |", "| --- | --- | --- |",
    ]  # fmt: skip
    for name, policy in POLICIES.items():
        rate, semicolon, note = (policy.rate.__doc__ or "").strip().rstrip(".").partition(";")
        reads = ", ".join(f"`{field}`" for field in ("base_lr", *policy.reads))
        lines.append(f"| `{name}` | `{rate}`{cell(semicolon + note)} | {reads} |")
    return lines


def sections() -> dict[str, list[schema.Field]]:
    """{title: fields}: the sections of the message in caffe.proto, then the forks of extensions/."""
    found: dict[str, list[schema.Field]] = {}
    for field in schema.fields("SolverParameter"):
        found.setdefault(field.note.section, []).append(field)
    return found


def _fields() -> list[str]:
    lines = ["", "## Fields", "", "A field without a default is absent, or 0, unless it is given."]
    for title, fields in sections().items():
        lines += ["", f"### In the Caffe of {title}" if fields[0].fork else f"### {title}"]
        lines += schema.table(
            "",
            fields,
            functools.partial(nets.link, page="net.md"),
            {"Read by": _read_by} if any(map(_read_by, fields)) else {},
        )
    return lines


def _read_by(field: schema.Field) -> str:
    """The types or policies that read a field; "" if it does not depend on them."""
    policies = [name for name, policy in POLICIES.items() if field.name in policy.reads]
    types = readers().get(field.name, [])
    return ", ".join(types) if types else ", ".join(f"`{name}`" for name in policies)
