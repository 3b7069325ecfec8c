"""docs/reference is what tools/write_reference.py makes of the code, and has every type, field and flag."""

import importlib.util
import re
import sys

import pytest

from house.imports import ROOT
from minicaffe import layer_type_list
from minicaffe.cli.command import find
from minicaffe.cli.entry import MODULES
from minicaffe.core.registry import facts_of
from minicaffe.proto import caffe_pb2
from minicaffe.solvers.lr_policy import POLICIES
from minicaffe.solvers.registry import solver_type_list

FOLDER = ROOT / "docs" / "reference"
TYPES = [name for name in layer_type_list() if facts_of(name).__module__.startswith("minicaffe.")]  # none of tests
PAGES = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.md")}
LAYERS = "\n".join(text for path, text in PAGES.items() if path.startswith("layers/"))


@pytest.fixture(scope="module")
def write_reference():
    """tools/write_reference.py as a module; what it imports stays importable while the tests run."""
    was = sys.path[:]
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "tools" / "write_reference.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:] = was


def section(text, heading):
    """The text under a heading, up to the next one of its level."""
    level, title = heading.split(" ", 1)
    found = re.search(
        rf"^{level} {re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"there is no heading '{heading}'"
    return found[1]


def test_the_pages_are_up_to_date(write_reference):
    made = write_reference.pages()
    stale = sorted(path for path in made.keys() | PAGES.keys() if made.get(path) != PAGES.get(path))
    assert not stale, f"docs/reference/{stale[0]} and others differ from the code: run python tools/write_reference.py"


@pytest.mark.parametrize("name", TYPES)
def test_every_type_has_a_section_and_a_line_in_the_index(name):
    text = section(LAYERS, f"## {name}")
    assert re.search(rf"^\| \[{name}\]\(layers/\w+\.md#{name.lower()}\) \| \S", PAGES["layers.md"], re.MULTILINE)
    assert "| Bottoms | Tops | In place | Gradient for | Engines |" in text
    assert f"](../../../{facts_of(name).__module__.replace('minicaffe.', '', 1).replace('.', '/')}.py)" in text
    assert ("| Fork |" in text) == ("/extensions/" in text)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_states_its_bottoms_and_tops(name):
    layer_doc = section(LAYERS, f"## {name}")
    assert re.search(r"\*\*(Bottom|Top)|^Another name for", layer_doc, re.MULTILINE)


def messages():
    """{field of LayerParameter: message} of all types that there are."""
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields
    return {field.name: field.message_type for field in fields if field.name.endswith("_param")}


@pytest.mark.parametrize("field", re.findall(r"^\*\*`(\w+)`\*\*$", LAYERS, re.MULTILINE))
def test_every_field_of_a_message_is_explained(field):
    table = LAYERS.partition(f"**`{field}`**")[2].partition("\n## ")[0].partition("\n**`")[0]
    rows = {
        row[0]: row[-1] for row in (re.split(r" \| ", line.strip("| ")) for line in re.findall(r"^\| `.*", table, re.M))
    }
    assert sorted(rows) == sorted(f"`{each.name}`" for each in messages()[field].fields)
    assert all(len(meaning) > 2 for meaning in rows.values())


def test_each_message_is_shown_once():
    shown = re.findall(r"^\*\*`(\w+)`\*\*$", LAYERS, re.MULTILINE)
    assert len(shown) == len(set(shown))
    others = {"quantization"}  # of no type
    assert set(messages()) - set(shown) == {"transform_param", "loss_param", *(f"{name}_param" for name in others)}


def test_every_field_of_a_solver_is_in_one_section():
    fields = section(PAGES["solver.md"], "## Fields")
    names = re.findall(r"^\| `(\w+)` \|", fields, re.MULTILINE)
    assert sorted(names) == sorted(field.name for field in caffe_pb2.SolverParameter.DESCRIPTOR.fields)


def test_solver_types_and_policies():
    types = section(PAGES["solver.md"], "## Types")
    assert sorted(re.findall(r"^### (\w+)$", types, re.MULTILINE)) == sorted(solver_type_list())
    policies = section(PAGES["solver.md"], "## Learning-rate policies")
    assert re.findall(r"^\| `(\w+)` \| `(?:base_lr|stagelr)", policies, re.MULTILINE) == list(POLICIES)
    assert "| Adam |" in next(line for line in PAGES["solver.md"].splitlines() if line.startswith("| `momentum2`"))


@pytest.mark.parametrize("name", MODULES)
def test_every_flag_of_a_command_is_there(name):
    command = find(name, MODULES)
    text = section(PAGES["commands.md"], f"## {name}")
    for title in re.findall(r"\]\(#([\w-]+)\)", text):
        text += section(PAGES["commands.md"], f"## {title.replace('-', ' ').capitalize()}")
    for action in command.parser()._actions:
        word = action.option_strings[0] if action.option_strings else action.metavar or action.dest
        if action.help != "==SUPPRESS==" and word != "--help":
            written = re.escape(word.replace("|", "\\|"))
            assert re.search(rf"^\| `[^|]*{written}", text, re.MULTILINE), word
    assert all(line.strip() in text for line in command.examples.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("names, compared", "Names, compared"), ("a net", "A net"), ("order[i] is", None), ("a_b", None)],
)
def test_names_at_the_beginning_of_a_text_stay(write_reference, text, expected):
    assert write_reference.layers.docstrings.capital(text) == (expected or text)


def test_rows_of_tables_have_their_columns():
    """A bar in a cell is escaped."""
    for path, text in PAGES.items():
        for head, rows in re.findall(r"^(\|.*)\n\|(?: --- \|)+\n((?:\|.*\n)+)", text, re.MULTILINE):
            for row in rows.splitlines():
                assert len(re.findall(r"(?<!\\)\|", row)) == head.count("|"), f"{path}: {row}"


def test_own_fields_are_not_those_of_a_fork():
    assert re.search(r"^\| `preprocess` \|.*\| \*minicaffe\.\* How images", PAGES["net.md"], re.MULTILINE)
