"""Run programs on several engines, compare the results, and reduce a program on which they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minicaffe.testing import NUMPY, EngineChoice
from random_use.operation import Operation
from random_use.player import Player
from random_use.program import Program

_NOISES = 6
_LARGEST = 1e6


class Disagreement(AssertionError):
    """Raised if results of an engine differ from the reference; the message contains the whole program."""


def play(program: Program, engines: Sequence[EngineChoice]) -> str:
    """Play on all engines; the first is the reference, whose layers run one by one.

    Returns "agreed"; "refused" if all engines raised the same error; "diverged" if values became too large or not
    finite; "rounding" if results differ too much to continue, but not more than rounding errors explain.
    Raises `Disagreement` otherwise.
    """
    players = [Player(program, engine) for engine in engines]
    for k, operation in enumerate(program.operations):
        if not operation.possible(players[0]):
            continue
        shown = [_attempt(player, operation) for player in players]
        errors = {type(one) for one in shown if isinstance(one, Exception)}
        if errors:
            if len(errors) == 1 and all(isinstance(one, Exception) for one in shown):
                return "refused"
            raise Disagreement(_message(program, k, f"{[e.name for e in engines]} gave {shown}"))
        for other, engine in zip(shown[1:], engines[1:]):
            verdict = _compare(program, players[0], k, shown[0], other, engine)
            if verdict != "agreed":
                return verdict
    return "agreed"


def _attempt(player: Player, operation: Operation):
    try:
        return player.run(operation)
    except Exception as error:
        return error


def _compare(program: Program, reference: Player, k: int, expected, got, engine: EngineChoice) -> str:
    """The verdict on what operation k showed; raises `Disagreement`."""
    for i, ((what, a), (_, b)) in enumerate(zip(expected, got, strict=True)):
        if not np.isfinite(a).all() or np.abs(a).max(initial=0) > _LARGEST:
            return "diverged"
        largest = float(np.abs(a).max(initial=0))
        floor = _diff_floor(reference, a) if what.endswith("diff") else 2e-4
        if a.shape == b.shape and (np.abs(a - b) <= 2e-3 * largest + floor).all():
            continue
        if a.shape != b.shape or not _is_rounding(program, k, i, a, b):
            raise Disagreement(_message(program, k, f"{engine.name}, {what}: {_difference(a, b)}"))
        if np.abs(a - b).max() > 1e-3 * max(1.0, largest):  # as at a kink: later results cannot be compared
            return "rounding"
    return "agreed"


def _diff_floor(player: Player, diff: np.ndarray) -> float:
    """Return the absolute tolerance of a diff: sums may cancel, to zero for a bias before a BatchNorm."""
    blobs = [player.blob(net, address) for net in range(len(player.nets)) for address in player.addresses(net)]
    largest = max(float(np.abs(blob.read_diff()).max(initial=0)) for blob in blobs)
    return (2e-3 if diff.ndim <= 1 else 3e-5) * largest + 1e-7


def _is_rounding(program: Program, k: int, i: int, expected: np.ndarray, got: np.ndarray) -> bool:
    """Whether the reference differs as much if all results of layers are perturbed by relative errors of 1e-6."""
    spread = 0.0
    for noise in range(1, _NOISES + 1):
        player, shown = Player(program, NUMPY, noise), []
        for operation in program.operations[: k + 1]:
            if operation.possible(player):
                shown = player.run(operation)
        spread = max(spread, float(np.abs(shown[i][1] - expected).max(initial=0)))
    return bool(np.abs(got - expected).max(initial=0) <= 10 * spread)


def _difference(expected: np.ndarray, got: np.ndarray) -> str:
    if expected.shape != got.shape:
        return f"expected shape {expected.shape}, got {got.shape}"
    error = np.abs(got - expected)
    at = tuple(int(n) for n in np.unravel_index(np.argmax(error), got.shape))
    count = int((error > 1e-3 * np.abs(expected).max()).sum())
    return f"expected {expected[at]:.6g} at {at}, got {got[at]:.6g}; {count} of {got.size} numbers differ"


def _message(program: Program, k: int, text: str) -> str:
    return f"\n{program}\noperation {k}, {program.operations[k]}:\n{text}"


def disagreement(program: Program, engines: Sequence[EngineChoice]) -> Disagreement | None:
    """The disagreement on a program; None if there is none, or if the program cannot be played."""
    try:
        play(program, engines)
    except Disagreement as found:
        return found
    except Exception:  # a net that cannot be built
        return None
    return None


def reduce(program: Program, engines: Sequence[EngineChoice]) -> Program:
    """Leave out operations, then layers, as long as the engines still disagree."""
    size = -1
    while size != len(program.operations) + len(program.text):
        size = len(program.operations) + len(program.text)
        for i in reversed(range(len(program.operations))):
            shorter = [*program.operations[:i], *program.operations[i + 1 :]]
            program = _if_disagreed(program, replace(program, operations=shorter), engines)
        for line in reversed(program.text.splitlines()):
            lines = program.text.splitlines()
            lines.remove(line)
            program = _if_disagreed(program, replace(program, text="\n".join(lines)), engines)
    return program


def _if_disagreed(program: Program, smaller: Program, engines: Sequence[EngineChoice]) -> Program:
    return smaller if disagreement(smaller, engines) else program


def check(program: Program, engines: Sequence[EngineChoice]) -> str:
    """As `play`, but the `Disagreement` is about a program that is as small as can be."""
    try:
        return play(program, engines)
    except Disagreement:
        pass
    smallest = reduce(program, engines)
    play(smallest, engines)
    raise Disagreement(f"\n{program}\ndisagrees, but not a second time")
