"""The catalogue of layer types: an index, and a page for each family.

Of each type: its docstring, the counts, gradient and engines from its class, the fields of its message from the
schema, and its ONNX form from the converter.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from minicaffe import layer_type_list
from minicaffe.core.calls import own_message
from minicaffe.core.engine import Engine, engines, variant_engines
from minicaffe.core.fusion import patterns_of
from minicaffe.core.layer import Layer
from minicaffe.core.registry import facts_of, variants_of
from minicaffe.export.onnx import layers as converters  # noqa: F401  (registers them)
from minicaffe.export.onnx.conversion import converter
from minicaffe.proto.caffe_pb2 import TRAIN, LayerParameter
from reference import docstrings, schema
from reference.docstrings import Part, cell

ROOT = Path(__file__).resolve().parent.parent.parent
FAMILIES = {  # of `Layer.family`: the page, its title and its first sentence
    "data": ("data", "Data", "Layers without bottoms, which read records or files, and HDF5Output, which writes them."),
    "weights": ("weights", "Convolution, InnerProduct, recurrent layers", "Layers that multiply with learned weights."),
    "pooling": ("pooling", "Pooling", "One number from each window or region."),
    "activation": ("activation", "Activations", "Functions of each number by itself."),
    "normalization": ("normalization", "Normalisation and scaling", "Mean, variance and length, factors and terms."),
    "loss": ("loss", "Losses and scores", "What is minimised or measured, and what makes scores into probabilities."),
    "arrangement": ("arrangement", "Arrangement", "Other shapes, orders and combinations of the same numbers."),
    "": ("other", "Others", "Dropout, user-defined layers, and parts of detectors and recurrent nets."),
}
SPELLINGS = {"NUMPY": "numpy", "ONEDNN": "oneDNN", "CUDNN": "cuDNN"}  # of the names of engines
MANY = 3  # bottoms of a type that takes any number
SHARED = ("transform_param", "loss_param")  # messages that have a section on the page of nets


@functools.cache
def types() -> list[str]:
    """All layer types of the package, sorted; none that a script has registered."""
    return [name for name in layer_type_list() if facts_of(name).__module__.startswith("minicaffe.")]


def types_of(family: str) -> list[str]:
    """The types of a family, sorted."""
    return [name for name in types() if facts_of(name).family == family]


def place(name: str) -> str:
    """The page and anchor of a type, seen from docs/reference/layers/."""
    return f"{FAMILIES[facts_of(name).family][0]}.md#{name.lower()}"


def summary(name: str) -> str:
    """What a type computes, in a sentence: the first line of its file, behind the name."""
    first = _first_line(importlib.import_module(facts_of(name).__module__))
    return docstrings.capital(first.partition(": ")[2])


# -- the index ---------------------------------------------------------------------------------------------------------


def index() -> list[str]:
    """The lines of docs/reference/layers.md."""
    forks = [name for name in types() if facts_of(name).fork]
    lines = [
        "# Layer types",
        "",
        f"The {len(types()) - len(forks)} types of Caffe's master, and {len(forks)} that forks of Caffe added. Each "
        "name leads to its formula, the shapes of its bottoms and tops, its fields with their defaults, and the code. "
        "What all layers have in common, such as `include`, `param` and `transform_param`, is in [nets](net.md).",
        "",
        "```{toctree}", ":hidden:", *(f"layers/{page}" for page, _, _ in FAMILIES.values()), "```",
    ]  # fmt: skip
    for family, (page, title, sentence) in FAMILIES.items():
        lines += ["", f"## [{title}](layers/{page}.md)", "", sentence, ""]
        lines += ["| Type | What it computes | Fork |", "| --- | --- | --- |"]
        lines += [
            f"| [{name}](layers/{place(name)}) | {cell(summary(name))} | {facts_of(name).fork} |"
            for name in types_of(family)
        ]
    lines += _fused()
    return [*lines, "", "## Types that are not here", "", "Those of [other forks](forks.md)."]


def _fused() -> list[str]:
    lines = [
        "", "## Layers computed as one", "",
        "Where layers follow each other as in a pattern, an engine computes them in one pass over the memory; every "
        "blob holds the same numbers as without. A type in brackets may be missing; one behind a plus sign reads the "
        "top as one of its bottoms; all others work in place on the top of the first.",
        "", "| Engine | Patterns |", "| --- | --- |",
    ]  # fmt: skip
    for engine in filter(_is_own, engines()):
        if found := patterns_of(engine.name):
            lines.append(f"| {_spelled(engine.name)} | {', '.join(f'`{pattern}`' for pattern in found)} |")
    return lines


# -- the page of a family ----------------------------------------------------------------------------------------------


def page(family: str, link: Callable[[str], str]) -> list[str]:
    """The lines of docs/reference/layers/<family>.md; link: function of a message's name, which returns Markdown."""
    _, title, sentence = FAMILIES[family]
    names = types_of(family)
    lines = [f"# {title}", "", sentence, ""]
    lines.append(" · ".join(f"[{name}](#{name.lower()})" for name in names))
    for name in names:
        lines += entry(name, link)
    return lines


def entry(name: str, link: Callable[[str], str]) -> list[str]:
    """The lines of a type's section."""
    formula, rest = _described(name)
    shown = [field for field in messages(name) if owner(field) == name]
    sources = [part for part in rest if part.label.startswith("Source")]
    described = [part for part in rest if part not in sources and part.label not in messages(name)]
    lines = ["", f"## {name}", "", docstrings.escaped(summary(name))]
    if formula:
        lines += ["", "```text", *formula, "```"]
    links = [*_elsewhere_described(name, rest), *sources, *_onnx(name), _code(name)]
    lines += ["", *_facts(name), *docstrings.markdown([*described, *links])]
    for field in shown:
        lines += ["", f"**`{field}`**", *schema.table(_message(field), schema.fields(_message(field)), link)]
    return lines


def _elsewhere_described(name: str, rest: Iterable[Part]) -> list[Part]:
    """Items of the messages whose tables are in other places: what the docstring states about them, and a link."""
    texts = {part.label: f": {docstrings.escaped(part.text)}" for part in rest}
    found = []
    for field in messages(name):
        if owner(field) != name:
            target = place(owner(field)) if owner(field) else f"../net.md#{_message(field).lower()}"
            found.append(Part("markdown", f"[**{field}**]({target}){texts.get(field, '')}"))
    return found


def _message(field: str) -> str:
    """The message of a field of LayerParameter."""
    return LayerParameter.DESCRIPTOR.fields_by_name[field].message_type.name


def _described(name: str) -> tuple[list[str], list[Part]]:
    """The docstring of a type: the lines of the formula at its beginning, if there is one, and the other parts.

    "Bottoms and tops are those of `Recurrent`" is replaced by the parts of the docstring of that base.
    """
    cls = facts_of(name)
    first, _, others = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")
    begin, rest = docstrings.parts(first), docstrings.parts(others)
    if base := re.search(r"are those of `(\w+)`", others):
        inherited = next(each for each in cls.__mro__ if each.__name__ == base[1])
        _, _, further = inspect.cleandoc(inherited.__doc__ or "").partition("\n\n")
        own = [part for part in rest if base[0] not in part.text]
        labels = {part.label for part in own}
        rest = [part for part in docstrings.parts(further) if part.label not in labels] + own
    if "=" not in first:
        return [], [*begin, *rest]
    return _formula(begin), [*filter(_is_about_blobs, begin), *rest]


def _formula(begin: Iterable[Part]) -> list[str]:
    """The lines of a formula, a line for each of its sentences and labelled cases, at most 104 characters long."""
    lines = []
    for part in begin:
        if not _is_about_blobs(part):
            text = (f"{part.label}: {part.text}" if part.label else part.text).replace("`", "")
            for sentence in re.split(r"(?<=\.)\s+(?=[A-Z]+: )", text):
                lines += textwrap.wrap(sentence, 104, subsequent_indent="    ", break_long_words=False)
    return lines


def _is_about_blobs(part: Part) -> bool:
    return bool(re.fullmatch(docstrings.BLOBS, part.label)) or part.label.endswith("_param")


def _facts(name: str) -> list[str]:
    """A table of one row, from the class."""
    layer = _instance(name)
    engine_names = ["NUMPY"] + [e.name for e in filter(_is_own, variant_engines()) if name in _variants(e.name)]
    if type(layer).forward_gpu is not Layer.forward_gpu:
        engine_names.append("CUDA")
    columns: dict[str, str] = {
        "Bottoms": count(layer, "bottom"),
        "Tops": count(layer, "top"),
        "In place": "yes" if layer.in_place else "no",
        "Gradient for": gradient(layer),
        "Engines": ", ".join(sorted(map(_spelled, engine_names), key=str.lower)),
    } | ({"Fork": layer.fork} if layer.fork else {})
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), columns.values())]


def _instance(name: str) -> Layer:
    """A layer of the type, not set up, with the largest number of bottoms, MANY where there is no limit."""
    cls = facts_of(name)
    layer = cls(LayerParameter(type=name, name=name), TRAIN)
    exact, most = layer.exact_num_bottom, layer.max_bottom
    layer.layer_param.bottom.extend(f"bottom{i}" for i in range(most or MANY if exact is None else exact))
    return layer


def count(layer: Layer, kind: str) -> str:
    """How many bottoms or tops a layer takes: "1", "1 or 2", "2 to 4", "1 or more", "as many as bottoms"."""
    if kind == "top" and layer.equal_num_bottom_top:
        return "as many as bottoms"
    exact, least, most = (getattr(layer, f"{limit}_{kind}") for limit in ("exact_num", "min", "max"))
    if exact is not None:
        return str(exact)
    if most is None:
        return "any" if not least else f"{least} or more"
    return f"{least or 0} {'or' if most == (least or 0) + 1 else 'to'} {most}"


def gradient(layer: Layer) -> str:
    """Which bottoms get a gradient; of layers with weights these do, too."""
    if type(layer).backward_cpu is Layer.backward_cpu or not getattr(layer, "cuda_backward", True):
        return "none"
    number = len(layer.layer_param.bottom)
    reached = [i for i in range(number) if layer.allow_force_backward(i)]
    if not reached:
        return "none" if layer.family == "data" else "parameters"
    if len(reached) == number:
        return "none" if layer.family == "data" else "all bottoms"
    if number == MANY and layer.max_bottom is None and layer.exact_num_bottom is None:
        return "all but the last"
    return f"bottom {' and '.join(map(str, reached))}"


@functools.cache
def _variants(engine: str) -> frozenset[str]:
    return frozenset(cls.type for cls in variants_of(engine))


def _is_own(engine: Engine) -> bool:
    """Whether an engine is one of the package, not of a script."""
    return type(engine).__module__.startswith("minicaffe.")


def _spelled(engine: str) -> str:
    return SPELLINGS.get(engine, engine)


def _onnx(name: str) -> list[Part]:
    if convert := converter(name):
        return [
            Part("markdown", f"[**ONNX**](../../export.md#layer-types): {docstrings.escaped(_first_line(convert))}")
        ]
    return []


def _code(name: str) -> Part:
    """Links to the layer's files."""
    stem = facts_of(name).__module__.removeprefix("minicaffe.layers.").replace(".", "/")
    folder, slash, file = stem.rpartition("/")
    paths = [f"layers/{stem}.py", f"cuda/{stem}.cu", f"tests/layers/{folder}{slash}test_{file}.py"]
    there = [f"[{path}](../../../{path})" for path in paths if (ROOT / path).exists()]
    return Part("markdown", f"**Code**: {', '.join(there)}")


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


# -- messages ----------------------------------------------------------------------------------------------------------


@functools.cache
def messages(name: str) -> tuple[str, ...]:
    """The fields of LayerParameter that hold a type's parameters: its own, and those that its docstring mentions."""
    known = LayerParameter.DESCRIPTOR.fields_by_name
    mentioned = re.findall(r"(?<!`)\b\w+_param\b", facts_of(name).__doc__ or "")
    own = own_message(name)
    return tuple(dict.fromkeys(each for each in [*([own] if own else []), *mentioned] if each in known))


@functools.cache
def owner(field: str) -> str:
    """The type in whose section the table of a message is; "" for those on the page of nets."""
    if field in SHARED:
        return ""
    own = [name for name in types() if own_message(name) == field]
    return min(own, default="") or next(name for name in types() if field in messages(name))
