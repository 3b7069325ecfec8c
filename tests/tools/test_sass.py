"""What tools/sass.py reads from listings of machine code, and tools/kernel_table.py makes of it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))  # last: a tool has the name of a test package
import kernel_table
import sass
from kernel_table import Row

LISTING = """
	.target	sm_90
	.section	.text.product,"ax",@progbits
product:
.text.product:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 BRA `(.L_x_0) ;
        /*0020*/                   IMAD.MOV.U32 R2, RZ, RZ, RZ ;
        /*0030*/                   IADD3 R2, R2, 0x1, RZ ;
.L_x_0:
        /*0040*/                   LDS.128 R4, [R2] ;
        /*0050*/                   LDG.E.128 R8, desc[UR4][R2.64] ;
        /*0060*/                   FFMA R16, R4, R8, R16 ;
        /*0070*/                   FFMA R17, R5, R8, R17 ;
        /*0080*/              @P1  LDL R9, [R1] ;
        /*0090*/                   FFMA R16, R6, R9, R16 ;
        /*00a0*/                   ISETP.NE.AND P1, PT, R2, RZ, PT ;
        /*00b0*/               @P1 BRA `(.L_x_0) ;
        /*00c0*/                   STG.E.64 desc[UR4][R2.64], R16 ;
        /*00d0*/                   EXIT ;
.L_x_1:
        /*00e0*/                   BRA `(.L_x_1);
        /*00f0*/                   NOP;
.L_x_9:

	.section	.text.nested,"ax",@progbits
nested:
.text.nested:
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_2:
        /*0010*/                   LDG.E R3, desc[UR4][R2.64] ;
.L_x_3:
        /*0020*/                   FADD R4, R4, R3 ;
        /*0030*/               @P0 BRA `(.L_x_3) ;
        /*0040*/              @!P1 BRA `(.L_x_4) ;
        /*0050*/                   FMUL R4, R4, R4 ;
        /*0060*/                   FMUL R4, R4, R4 ;
.L_x_4:
        /*0070*/                   STG.E desc[UR4][R2.64], R4 ;
        /*0080*/               @P2 BRA `(.L_x_2) ;
        /*0090*/                   EXIT ;
.L_x_5:
        /*00a0*/                   BRA `(.L_x_5);
"""


@pytest.fixture
def kernels():
    return sass.parse(LISTING)


def test_kernels_and_their_instructions(kernels):
    assert list(kernels) == ["product", "nested"]
    code = kernels["product"].code
    assert (code[4].op, code[4].bytes, code[4].group) == ("LDS.128", 16, "LDS")
    assert (code[5].op, code[5].bytes) == ("LDG.E.128", 16)
    assert (code[8].base, code[8].predicate, code[8].bytes) == ("LDL", "@P1", 4)
    assert len(code) == 16


def test_the_branch_that_ends_a_text_is_no_loop(kernels):
    (loop,) = kernels["product"].loops
    assert (loop.begin, loop.end, loop.depth, loop.innermost) == (4, 12, 0, True)


def test_shares_of_the_main_loop(kernels):
    kernel = kernels["product"]
    (loop,) = kernel.main_loops
    assert kernel.share(loop, "FFMA") == 3 / 8
    assert kernel.share(loop, "INT") == 1 / 8
    assert kernel.counts(loop)["LDL"] == 1 and kernel.spills == 1
    assert not kernel.is_product  # three multiplications are not that of a tile


def test_loops_inside_of_loops(kernels):
    outer, inner = kernels["nested"].loops
    assert (outer.begin, outer.end, outer.depth, outer.innermost) == (1, 9, 0, False)
    assert (inner.begin, inner.end, inner.depth, inner.innermost) == (2, 4, 1, True)
    assert outer.contains(inner) and not inner.contains(outer)


def test_the_longest_and_the_shortest_path(kernels):
    kernel = kernels["nested"]
    outer, inner = kernel.loops
    assert kernel.path(outer) == 8 and kernel.path(outer, longest=False) == 6
    assert kernel.path(outer, [inner]) == 6
    assert kernel.path() == 10
    product = kernels["product"]
    assert product.path(without=product.main_loops) == 6 and product.path(longest=False) == 12


@pytest.mark.parametrize(
    "arch, threads, registers, shared, blocks",
    [
        ("sm_90", 256, 128, 17 << 10, 2),  # registers
        ("sm_90", 256, 32, 0, 8),  # threads
        ("sm_90", 256, 32, 100 << 10, 2),  # shared memory, of which 1 KB is reserved
        ("sm_90", 256, 32, 114 << 10, 1),
        ("sm_90", 32, 16, 0, 32),  # blocks
        ("sm_90a", 256, 255, 0, 1),
        ("sm_75", 256, 32, 0, 4),
        ("sm_120", 256, 40, 0, 6),
    ],
)
def test_blocks_that_fit(arch, threads, registers, shared, blocks):
    assert sass.resident(arch, threads, registers, shared) == blocks


def row(**more):
    first = dict(
        name="gemm.gemm_128", math="float32", registers=128, stack=0, shared=0, threads=256, resident=2, occupancy=0.25
    )
    return Row(**{**first, "product": True, "tensor": False, "loop": 100, "multiply": 0.85, **more})


def test_goals():
    assert row().fault == ""
    assert row(multiply=0.79).fault == "79.0% of its inner loop multiplies, the goal is 80%"
    assert row(spilled=2).fault == "2 accesses to spilled registers in its inner loop"
    assert row(tensor=True, math="tf32", multiply=0.26).fault == ""
    assert "the goal is 25%" in row(tensor=True, math="tf32", multiply=0.2).fault
    assert row(product=False, multiply=0.1).fault == ""


def test_the_table_is_written_between_its_marks(tmp_path):
    class Made:
        def markdown(self):
            return "| new |"

    file = tmp_path / "gpu.md"
    file.write_text(f"before\n{kernel_table.BEGIN}\n| old |\n{kernel_table.END}\nafter\n")
    kernel_table.write_table(Made(), file)
    assert kernel_table.written(file) == "| new |"
    assert file.read_text().startswith("before\n") and file.read_text().endswith("\nafter\n")
    file.write_text("no marks\n")
    with pytest.raises(kernel_table.DeviceError, match="lacks the lines"):
        kernel_table.write_table(Made(), file)


def test_what_is_no_cubin_is_refused():
    with pytest.raises(sass.SassError, match="this is no cubin"):
        sass.resources(b"text")
