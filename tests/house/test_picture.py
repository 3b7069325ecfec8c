"""docs/house.svg shows the floors, the modules and the imports as they are; the numbers in it may be older."""

import importlib.util
import re
import sys

import pytest

from house.imports import ROOT

PICTURE = (ROOT / "docs" / "house.svg").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def draw_house():
    """tools/draw_house.py as a module."""
    spec = importlib.util.spec_from_file_location("draw_house", ROOT / "tools" / "draw_house.py")
    module = importlib.util.module_from_spec(spec)
    was = sys.path[:]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = was
    return module


def test_the_picture_is_up_to_date(draw_house):
    is_new = draw_house.without_counts(draw_house.House().canvas.svg()) == draw_house.without_counts(PICTURE)
    assert is_new, "docs/house.svg shows other floors, modules or imports than there are: run tools/draw_house.py"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [(">core/<", ">kernel/<", False), ("<polygon", "<circle", False), (r">\d+<", ">7654<", True)],
    ids=["box", "arrow", "number"],
)
def test_what_counts_as_a_change(draw_house, old, new, same):
    changed = re.sub(old, new, PICTURE, count=1)
    assert changed != PICTURE
    assert (draw_house.without_counts(changed) == draw_house.without_counts(PICTURE)) is same
