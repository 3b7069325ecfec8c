"""docs/export.md lists every layer type with its ONNX form, as the converters state it."""

from pathlib import Path

import minicaffe
from minicaffe import layer_type_list
from minicaffe.core.registry import facts_of
from minicaffe.export.onnx import layers  # noqa: F401  (registers the converters)
from minicaffe.export.onnx.conversion import converter, exported_types

PAGE = Path(minicaffe.__file__).resolve().parent.parent / "docs" / "export.md"
#: The types that have no form, besides Python, as the page lists them.
REFUSED = (
    "Affinity, BoxGroupOutput, BoxOutput, ConnectedComponent, Correlation, Correlation1D, DecodeBBox, DenseCRF, "
    "FrcnnOutput, FrcnnProposal, HardMining, ImResize, LargeMarginInnerProduct, MarginInnerProduct, "
    "MultiStageMeanfield, Nms, Proposal, ProposalTarget, ROIWarping, ScaleRoute, YoloDetectionOutput, "
    "Yolov3DetectionOutput"
)


def table() -> str:
    """The rows of the table: types that have the same form together."""
    types: dict[str, list[str]] = {}
    for each in exported_types():
        types.setdefault(converter(each).__doc__.partition("\n")[0], []).append(each)
    return "".join(f"| {', '.join(names)} | {form} |\n" for form, names in types.items())


def test_the_table_is_what_the_converters_state():
    text = PAGE.read_text(encoding="utf-8")
    assert table() in text, f"replace the rows under 'Layer types' by\n{table()}"


def test_the_types_without_a_form_are_listed():
    assert REFUSED in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_every_type_has_a_form_or_is_left_out():
    own = (each for each in layer_type_list() if facts_of(each).__module__.startswith("minicaffe."))  # none of tests
    others = {each for each in own if converter(each) is None}
    refused = {each for each in others if facts_of(each).family not in ("loss", "data")}
    assert refused == {"Python", *(name.strip() for name in REFUSED.split(","))}
