"""The layers that there are: every file is imported, every type of the original is registered."""

import ast
from pathlib import Path

import pytest

import minicaffe.layers
from minicaffe.core.registry import layer_class, layer_type_list, register
from minicaffe.errors import LayerError

FOLDER = Path(minicaffe.layers.__file__).parent

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
    if package == "extensions":  # the package above imports them
        tree = ast.parse((FOLDER / "__init__.py").read_text())
    imported = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    ]
    paths = [path for path in (FOLDER / package).glob("*.py") if path.stem != "__init__"]
    if package == "onednn":  # what its variants stand on is imported where it is used
        paths = [path for path in paths if "\n@register(" in path.read_text()]
    files = sorted(path.stem for path in paths)
    assert imported == files


def test_all_types_of_master_are_registered():
    assert len(MASTER) == 61
    assert set(MASTER) <= set(layer_type_list())


def test_an_unknown_type_names_the_nearest_and_all():
    with pytest.raises(
        LayerError, match=r'layer \'c\' has the unknown type "Convolutoin" \(did you mean "Convolution"\?\)'
    ):
        layer_class("Convolutoin", name="c")


def test_a_type_is_registered_once():
    with pytest.raises(LayerError, match="layer type ReLU .* is registered twice"):
        register("ReLU")(type("Other", (), {}))


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_layer_fits_on_a_few_screens(path):
    text = path.read_text()
    assert "\n@register(" not in text or len(text.splitlines()) <= 200
