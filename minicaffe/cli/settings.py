"""The flags --set and --seed: fields of the solver, and the random seed, from the command line."""

from __future__ import annotations

import argparse
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from minicaffe.cli.command import FlagParser
from minicaffe.core import random
from minicaffe.errors import PrototxtError, UsageError

if TYPE_CHECKING:
    from minicaffe.solvers.nets import Source

log = logging.getLogger("minicaffe")

_LARGEST_SEED = (1 << 63) - 1


def set_flag(flags: FlagParser) -> None:
    """Add --set."""
    flags.flag("set", action="append", default=[], metavar="FIELD=VALUE", values=_fields(),
               help="set a field of the solver, such as base_lr=0.01, stepvalue=100,200 or train_state.level=1, or of "
                    "its net, such as net_param.layer[data].data_param.batch_size=32; may be repeated")  # fmt: skip


def _fields() -> list[str]:
    """The fields of a solver, as a setting begins with them."""
    from minicaffe.proto import caffe_pb2

    return [f"{name}=" for name in caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name]


def seed_flag(flags: FlagParser, default: str = "a different one each time") -> None:
    """Add --seed; default: what is used without it, for the help."""
    flags.flag("seed", type=int, metavar="N", help=f"random seed (default: {default})")


def settings_of(args: argparse.Namespace) -> list[Any]:
    """Return the settings of --set and --seed; UsageError for wrong ones, as far as that is known without a solver."""
    from minicaffe.proto.fields import parse_setting

    settings = []
    for text in args.set:
        try:
            settings.append(parse_setting(text))
        except PrototxtError as error:
            raise UsageError(f"--set {text}: {error.args[0]}") from None
    if args.seed is not None:
        if any(setting.name == "random_seed" for setting in settings):
            raise UsageError("give --seed or --set random_seed, but not both")
        settings.append(parse_setting(f"random_seed={checked_seed(args.seed)}"))
    return settings


def apply(source: Source, args: argparse.Namespace) -> Source:
    """Apply --set and --seed to what `nets.load` returned, log each change, and return it.

    UsageError for an unknown field and for a value that a field cannot have.
    """
    from minicaffe.solvers.changes import set_fields

    try:
        for line in set_fields(source, settings_of(args)):
            log.info("Set %s", line)
    except PrototxtError as error:
        raise UsageError(f"--set {error.args[0]}") from None
    return source


def checked_seed(seed: int) -> int:
    """Return a seed; UsageError for one that is negative or too large."""
    if not 0 <= seed <= _LARGEST_SEED:
        raise UsageError(f"--seed: expected a whole number from 0 to {_LARGEST_SEED}, got {seed}")
    return seed


def seeded(args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Return the context manager in which layers draw random numbers from --seed, if it is given."""
    return contextlib.nullcontext() if args.seed is None else random.seeded(checked_seed(args.seed))
