"""What the machine code of products for sm_90 must be: mostly multiplications in inner loops, no spills in them."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from minicaffe.cuda import compilers
from minicaffe.cuda.sources import HERE

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import kernel_table
import sass

PRODUCTS = sorted(
    path.stem
    for path in HERE.glob("*.cu")
    if re.search(r'#include "(gemm|gathered|tensor)\w*\.cuh"', path.read_text())
)
#: {kernel and precision: the part of its inner loop that multiplies} of products that do not reach the goal of
#: kernel_table.py; the test fails if one gets worse, and if one reaches the goal and is still listed
BELOW: dict[str, float] = {}


@pytest.fixture(scope="module")
def rows():
    """The products that training steps of the model's nets launch, and other kernels of the same sources."""
    if not compilers.libraries():
        pytest.skip("there is no NVRTC")
    try:
        sass.nvdisasm()
    except sass.SassError as error:
        pytest.skip(str(error))
    launched = {(key.split(".")[0], tuple(key.split()[1:])) for key in kernel_table.geometry()}
    jobs = [(stem, np.dtype(np.float32), options) for stem, options in sorted(launched) if stem in PRODUCTS]
    return [row for row in kernel_table.Report("sm_90", jobs).rows if row.product]


def test_products_reach_their_goals(rows):
    assert len(rows) > 10
    faults = []
    for row in rows:
        name = f"{row.name} {row.math}"
        least = BELOW.get(name)
        if least is None and row.fault:
            faults.append(f"{name}: {row.fault}")
        elif least is not None and not row.fault:
            faults.append(f"{name}: reaches the goal, so it need not be listed")
        elif least is not None and row.multiply < least - 0.01:
            faults.append(f"{name}: {row.multiply:.1%} of its inner loop multiplies, it was {least:.1%}")
    assert not faults, "\n".join(faults)


def test_the_table_in_the_documentation_is_of_these_kernels(rows):
    table = kernel_table.written()
    assert not (unknown := [row.name for row in rows if f"| {row.name} | {row.math} |" not in table]), unknown
