#!/usr/bin/env python
"""What the prototxts in a folder have that minicaffe does not know: counts, and what blocks most files.

    python tools/survey.py FOLDER [--top N]

Each folder directly in FOLDER counts as one repository; files of the same content count once.  A file is blocked by
layer types, and by fields and values that cannot be read.  "alone" is the number of files that have nothing else
unknown.  Only prototxts of nets and solvers are read, not label maps and other messages; hints, which
--skip-unknown-fields leaves out, block as well.  Words in place of numbers, in templates, have no fork.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from minicaffe.core.registry import unknown_type  # noqa: E402  (needs the line above)
from minicaffe.errors import MinicaffeError, PrototxtError  # noqa: E402
from minicaffe.proto import caffe_pb2, parse_text, upgrade_net  # noqa: E402
from minicaffe.proto.kinds import kind_of  # noqa: E402
from minicaffe.proto.reading import text_of  # noqa: E402
from minicaffe.proto.unknown import Fault, faults_of, without  # noqa: E402

_OWNER = re.compile(", it belongs to ([^;]*)")
_TEMPLATE = re.compile(r'has the placeholder "[^"]*" of (.*?): ')
_NAMELESS = "no known fork"
#: fields outside of messages that only other kinds of prototxts have
_OTHERS = {"label maps": {"item"}, "caffe_neural_tool": {"train", "process", "benchmark"}}


class Obstacle(NamedTuple):
    """Something unknown: a layer type, or a field or value.  owner: the fork that has it."""

    kind: str
    name: str
    owner: str


class Survey:
    """The files of a folder: what each has unknown.

    obstacles: by path.  unreadable: {path: why} of files that are no prototxts of nets or solvers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.obstacles: dict[Path, set[Obstacle]] = {}
        self.unreadable: dict[Path, str] = {}
        for path in _distinct(path for path in sorted(folder.rglob("*")) if path.is_file()):
            try:
                self.obstacles[path] = set(_obstacles(path))
            except MinicaffeError as error:
                self.unreadable[path] = str(error)

    def counts(self) -> dict[str, int]:
        """The number of files by what they have unknown."""
        names = {(): "nothing unknown", ("type",): "only types", ("field",): "only fields"}
        kinds = Counter(tuple(sorted({each.kind for each in found})) for found in self.obstacles.values())
        return {name: kinds[key] for key, name in names.items()} | {"types and fields": kinds["field", "type"]}

    def ranked(self, kind: str, key: Callable[[Obstacle], str]) -> list[tuple[str, int, int, int]]:
        """(name, repositories, files, files that have nothing else unknown), most files first.

        kind: "type" or "field"; "" for both.  key: what is counted of an obstacle.
        """
        files, alone = defaultdict(set), Counter()
        for path, found in self.obstacles.items():
            for name in {key(each) for each in found if kind in (each.kind, "")}:
                files[name].add(path)
                alone[name] += {key(each) for each in found} == {name}
        rows = [
            (name, len({self._repository(p) for p in each}), len(each), alone[name]) for name, each in files.items()
        ]
        return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))

    def _repository(self, path: Path) -> str:
        return path.relative_to(self.folder).parts[0]


def _distinct(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the first file of each content."""
    seen = set()
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest not in seen:
            seen.add(digest)
            yield path


def _obstacles(path: Path) -> Iterator[Obstacle]:
    """Yield what a file has unknown; PrototxtError if it is no prototxt of a net or a solver."""
    text = text_of(path)
    message, kind = caffe_pb2.SolverParameter(), kind_of(text)
    faults = [] if kind == "net" else faults_of(text, message)
    outside = {fault.name.partition(".")[2] for fault in faults}
    for other, fields in _OTHERS.items():
        if not kind and outside & fields:
            raise PrototxtError(f"{path} is of the kind of {other}")
    if kind == "net" or (not kind and faults):
        message = caffe_pb2.NetParameter()
        faults = faults_of(text, message)
    parse_text(without(text, faults), message, path)
    yield from map(_obstacle, faults)
    nets = [message]
    if isinstance(message, caffe_pb2.SolverParameter):
        nets = [message.net_param, message.train_net_param, *message.test_net_param]
    for net in nets:
        for layer in upgrade_net(net, path).layer:
            if layer.type and (sentence := unknown_type(layer.type)):
                yield Obstacle("type", layer.type, _owner_in(sentence))


def _obstacle(fault: Fault) -> Obstacle:
    name = fault.name if fault.kind == "field" else _OWNER.sub("", fault.sentence).partition(" of ")[0]
    return Obstacle("field", name, _owner_in(fault.sentence))


def _owner_in(sentence: str) -> str:
    """The fork that a sentence names."""
    found = _OWNER.search(sentence) or _TEMPLATE.search(sentence)
    return found[1] if found else _NAMELESS


def main() -> None:
    """Print the counts and the three rankings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with a folder for each repository")
    parser.add_argument("--top", type=int, default=60, metavar="N", help="how many lines of each ranking (default 60)")
    args = parser.parse_args()
    survey = Survey(args.folder)
    print(f"{len(survey.obstacles)} distinct prototxts, {len(survey.unreadable)} other files")
    for name, count in survey.counts().items():
        print(f"{count:6}  {name}")
    for title, kind, key in (
        ("fork", "", lambda each: each.owner),
        ("type", "type", lambda each: each.name),
        ("field or value", "field", lambda each: each.name),
    ):
        print(f"\n| {title} | repositories | files | alone |\n| --- | --- | --- | --- |")
        for row in survey.ranked(kind, key)[: args.top]:
            print("| {} | {} | {} | {} |".format(*row))


if __name__ == "__main__":
    main()
