"""The registry: every file is imported, every type of the original is registered."""

import ast
import importlib
from pathlib import Path

import pytest

import minicaffe.layers
from minicaffe.core.layer import Layer
from minicaffe.core.registry import layer_class, layer_type_list, register
from minicaffe.errors import LayerError

FOLDER = Path(minicaffe.layers.__file__).parent
TESTS = Path(__file__).parent

MASTER = """
AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data Deconvolution
Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData
InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU Parameter Pooling
Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss
Split Swish TanH Threshold Tile WindowData
""".split()


@pytest.mark.parametrize("package", ["", "extensions", "onednn"])
def test_every_file_is_imported_in_order(package):
    module = ".".join(["minicaffe.layers", package]).rstrip(".")
    tree = ast.parse((FOLDER / package / "__init__.py").read_text())
    if package == "extensions":  # imported by the package above
        tree = ast.parse((FOLDER / "__init__.py").read_text())
    imported = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    ]
    paths = [path for path in (FOLDER / package).glob("*.py") if path.stem != "__init__"]
    if package == "onednn":  # the helpers of its variants are imported where they are used
        paths = [path for path in paths if "\n@register(" in path.read_text()]
    files = sorted(path.stem for path in paths)
    assert imported == files


def test_the_list_holds_types_and_nothing_else():
    """Beside the imports there is pycaffe's `L.Convolution(...)`, a module's `__getattr__`."""
    docstring, *body = ast.parse((FOLDER / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    imports = [node.module for node in body if isinstance(node, ast.ImportFrom)]
    lists = ["minicaffe.layers", "minicaffe.layers.extensions"]
    assert functions == ["__getattr__"] and imports == ["minicaffe.core.calls", *lists]  # calls: for __getattr__
    assert len(body) == 4


def registers(path):
    return "\n@register(" in path.read_text()


TYPES = sorted(path for folder in ("", "extensions") for path in (FOLDER / folder).glob("*.py") if path.stem[0] != "_")


@pytest.mark.parametrize("path", TYPES, ids=lambda path: path.stem)
def test_a_file_of_a_type_holds_a_type_and_has_tests(path):
    place = path.relative_to(FOLDER)
    assert registers(path), f"layers/{place} registers no type: what types share is in layers/shared/"
    assert (TESTS / place).with_name(f"test_{place.name}").exists(), f"layers/{place} has no tests of its stem"


@pytest.mark.parametrize("folder", ["shared", "fused"])
def test_what_types_share_registers_none(folder):
    assert not [path.name for path in (FOLDER / folder).glob("*.py") if registers(path)]


def test_files_of_types_give_others_nothing_but_the_type():
    """What another file imports from the file of a type is a layer class; functions of several types are in shared/."""
    names = {
        f"minicaffe.layers.{path.relative_to(FOLDER).with_suffix('').as_posix().replace('/', '.')}" for path in TYPES
    }
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in names:
                for alias in node.names:
                    given = getattr(importlib.import_module(node.module), alias.name)
                    assert isinstance(given, type) and issubclass(given, Layer), f"{path}: {node.module}.{alias.name}"


def test_all_types_of_master_are_registered():
    assert len(MASTER) == 61
    assert set(MASTER) <= set(layer_type_list())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Convolutoin", '(did you mean "Convolution", "NdConvolution" or "Deconvolution"?)'),
        ("ReLu6", '(did you mean "ReLU6", "ReLU" or "RReLU"?)'),
        (
            "FcRistretto",
            "it belongs to Ristretto; register a layer of your own under this name, or put a Python layer in its place "
            "(docs/write_a_layer.md)",
        ),
        ("Qwertz", ""),
    ],
)
def test_an_unknown_type_names_its_fork_or_the_nearest(name, sentence):
    with pytest.raises(LayerError) as error:
        layer_class(name, name="c")
    text = str(error.value)
    assert text.startswith(f"layer 'c' has the unknown type \"{name}\"") and text.endswith(sentence or f'"{name}"')


def test_a_type_is_registered_once():
    with pytest.raises(LayerError, match="layer type ReLU .* is registered twice"):
        register("ReLU")(type("Other", (), {}))


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_layer_fits_on_a_few_screens(path):
    text = path.read_text()
    assert not registers(path) or len(text.splitlines()) <= 200
