"""The page of forks: which of their layer types are here, and what is not."""

from __future__ import annotations

from collections import defaultdict

from minicaffe.core.registry import facts_of
from minicaffe.proto.elsewhere import FORKS, PLACEHOLDERS, Fork
from reference.docstrings import cell
from reference.layers import place, types


def page() -> list[str]:
    """The lines of docs/reference/forks.md."""
    here = defaultdict(list)
    for name in types():
        if fork := facts_of(name).fork:
            here[fork].append(f"[{name}](layers/{place(name)})")
    return [
        "# Forks of Caffe", "",
        "Many repositories come with a copy of Caffe that has more layer types and fields. `minicaffe check FILE` "
        "lists all that is unknown in a prototxt, with the fork that has it.", "",
        "## What is here", "",
        "Fields of forks for master's types are in the sections of these types and in [nets](net.md).", "",
        "| Fork | Layer types |", "| --- | --- |",
        *(f"| {cell(fork)} | {', '.join(names)} |" for fork, names in sorted(here.items())), "",
        "## What is not here", "",
        "A net with one of these types or fields is refused, and the error names the fork. A [layer of your "
        "own](../write_a_layer.md) can be registered under the name of a type, or a [Python "
        "layer](layers/other.md#python) put in its place. Fields without a message are those of a layer.", "",
        "| Fork | Types | Fields |", "| --- | --- | --- |",
        *(f"| {_linked(name, fork)} | {_listed(fork.types)} | {_listed(fork.fields)} |" for name, fork in FORKS.items()
          if fork.types or fork.fields), "",
        "## Fields that change no result", "",
        "They are about memory, speed or logs, or about numbers of few bits, where minicaffe computes in float; those "
        "with a value here change nothing with this value. They are errors, too, but with `--skip-unknown-fields`, or "
        "after `minicaffe.skip_unknown_fields()`, a prototxt is read without them; a line of the log names them.", "",
        "| Fork | Fields |", "| --- | --- |",
        *(f"| {_linked(name, fork)} | {_listed(fork.hints)} |" for name, fork in FORKS.items() if fork.hints), "",
        "## Templates", "",
        "A prototxt with a word in place of a number is a template, from which a script of the repository makes nets:",
        "", *(f"- `{pattern}`: {whose}." for pattern, whose in PLACEHOLDERS),
    ]  # fmt: skip


def _linked(name: str, fork: Fork) -> str:
    """The name of a fork, with a link to its source."""
    return f"[{cell(name)}](https://github.com/{fork.repository})" if fork.repository else cell(name)


def _listed(names: str) -> str:
    """Names in a cell: those of a message behind it, on lines of their own."""
    parts: list[list[str]] = [[]]
    for word in names.split():
        if word.endswith(":"):
            parts.append([f"{word} "])
        else:
            parts[-1].append(f"`{word}`, ")
    return "<br>".join("".join(words).rstrip(", ") for words in parts if words)
