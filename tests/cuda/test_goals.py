"""What the machine code of products for sm_90 must be: mostly multiplications in inner loops, no spills in them."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from minicaffe.cuda import compilers, convolution, convolution_weights, ops
from minicaffe.cuda.sources import HERE

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))  # last: a tool has the name of a test package
import kernel_table
import sass

PRODUCTS = sorted(
    path.stem for path in HERE.glob("*.cu") if re.search(r'#include "(gemm|gathered|tensor)\w*\.cuh"', path.read_text())
)
#: {kernel and precision: the part of its inner loop that multiplies} of products that do not reach the goal of
#: kernel_table.py; the test fails if one gets worse, and if one passes the goal by far and is still listed
BELOW: dict[str, float] = {
    # float32: with up to 16 or 32 rows an element that is gathered is used so often, and gathering takes 3 instructions
    "convolution.gathered_16 float32": 0.768,
    "convolution_weights.weights_16 KERNEL_WIDTH=1 float32": 0.629,
    "convolution_weights.weights_16 KERNEL_WIDTH=3 float32": 0.724,
    "convolution_weights.weights_16 PLANES KERNEL_WIDTH=1 float32": 0.716,
    "convolution_weights.weights_16 WIDE_COPIES KERNEL_WIDTH=1 float32": 0.633,
    "convolution_weights.weights_16 WIDE_COPIES KERNEL_WIDTH=3 float32": 0.729,
    "convolution_weights.weights_16 WIDE_COPIES KERNEL_WIDTH=5 float32": 0.751,
    "convolution_weights.weights_32 KERNEL_WIDTH=1 float32": 0.722,
    "convolution_weights.weights_32 KERNEL_WIDTH=3 float32": 0.781,
    "convolution_weights.weights_32 PLANES KERNEL_WIDTH=1 float32": 0.783,
    "convolution_weights.weights_32 WIDE_COPIES KERNEL_WIDTH=1 float32": 0.735,
    "convolution_weights.weights_32 WIDE_COPIES KERNEL_WIDTH=3 float32": 0.795,
    "convolution_weights.weights_32 WIDE_COPIES KERNEL_WIDTH=5 float32": 0.788,
    "convolution_weights.weights_64 KERNEL_WIDTH=1 float32": 0.792,
    "convolution_weights.weights_64 WIDE_COPIES KERNEL_WIDTH=1 float32": 0.799,
    "gemm.gemm_128x32 TRANS_A float32": 0.779,
    "gemm.gemm_128x32 float32": 0.792,
    "gemm.gemm_32x128 TRANS_A float32": 0.795,
    "gemm.gemm_32x128 float32": 0.793,
    # TF32: rounding each factor to nearest, with nan kept, takes two instructions in the loop
    "tensor_convolution.correlate_32x128 tf32": 0.167,
    "tensor_convolution.weights_128x128 tf32": 0.247,
    "tensor_convolution.weights_32x256 tf32": 0.149,
    "tensor_convolution.weights_64x128 tf32": 0.172,
    "tensor_gemm.gemm_128x128 TRANS_A WIDE_COPIES tf32": 0.246,
    "tensor_gemm.gemm_128x128 TRANS_A tf32": 0.164,
    "tensor_gemm.gemm_128x128 TRANS_B WIDE_COPIES tf32": 0.241,
    "tensor_gemm.gemm_128x128 WIDE_COPIES tf32": 0.246,
    "tensor_gemm.gemm_128x128 tf32": 0.174,
    "tensor_gemm.gemm_128x64 TRANS_A WIDE_COPIES tf32": 0.173,
    "tensor_gemm.gemm_128x64 TRANS_A tf32": 0.111,
    "tensor_gemm.gemm_128x64 TRANS_B WIDE_COPIES tf32": 0.179,
    "tensor_gemm.gemm_128x64 WIDE_COPIES tf32": 0.176,
    "tensor_gemm.gemm_128x64 tf32": 0.123,
}
_SCATTER = 0.03  # between versions of the compiler


@pytest.fixture(scope="module")
def rows():
    """The products that training steps of the model's nets launch, and other kernels of the same sources."""
    if not compilers.libraries():
        pytest.skip("there is no NVRTC")
    try:
        sass.nvdisasm()
    except sass.SassError as error:
        pytest.skip(str(error))
    launched = sorted(kernel_table.launched())
    jobs = [(stem, np.dtype(np.float32), options) for stem, options in launched if stem in PRODUCTS]
    return [row for row in kernel_table.Report("sm_90", jobs).rows if row.product]


def test_products_reach_their_goals(rows):
    assert len(rows) > 10
    faults = []
    for row in rows:
        name = f"{row.name} {row.math}"
        least = BELOW.get(name)
        if least is None and row.fault:
            faults.append(f"{name}: {row.fault}")
        elif least is not None and not row.fault and row.multiply > least + _SCATTER:
            faults.append(f"{name}: reaches the goal, so it need not be listed")
        elif least is not None and row.multiply < least - _SCATTER:
            faults.append(f"{name}: {row.multiply:.1%} of its inner loop multiplies, it was {least:.1%}")
    assert not faults, "\n".join(faults)


def modelled_tile(name):
    """The tile of a float32 product, with the instructions that the choice between tiles assumes."""
    stem, kernel = name.split()[0].split(".")
    if stem == "gemm":
        return ops._TILES[kernel]
    rows = int(kernel.rsplit("_", 1)[1])
    if stem == "convolution":
        return convolution._TILES[4][rows]
    planes = 0 if "WIDE_COPIES" in name else 3
    return convolution_weights.tile_of(rows, 4, planes if "PLANES" in name else int(re.search(r"WIDTH=(\d)", name)[1]))


def test_tiles_are_chosen_by_the_instructions_of_their_steps(rows):
    steps = {row.name: (row.loop, modelled_tile(row.name).step) for row in rows if row.math == "float32"}
    assert len(steps) > 10
    assert not {name: pair for name, pair in steps.items() if abs(pair[0] / pair[1] - 1) > 0.1}


def test_the_table_in_the_documentation_is_of_these_kernels(rows):
    table = kernel_table.written()
    assert not (unknown := [row.name for row in rows if f"| {row.kernel} | {row.math} |" not in table]), unknown
