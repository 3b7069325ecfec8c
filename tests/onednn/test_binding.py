"""The binding to libdnnl: layouts, reorders, primitives against plain loops, errors, threads."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from helpers.engines import needs_onednn
from helpers.references import convolution
from minicaffe import onednn
from minicaffe.layers.shared.window import Window

pytestmark = needs_onednn

from minicaffe.onednn import conversion, primitives, tensors  # noqa: E402
from minicaffe.onednn.library import Alg, Arg, OneDNNError, Unsupported  # noqa: E402

rng = np.random.default_rng(0)


def random(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def put(array, desc):
    """The array's numbers in memory of the given layout."""
    result = tensors.Tensor(desc)
    conversion.reorder(tensors.of_array(array), result)
    return result


def correlate(x, w, stride, pad):
    return convolution(x, w, Window(w.shape[2:], (stride,) * 2, (pad,) * 2, (1, 1)))


def test_version_is_three():
    assert onednn.version().startswith("3.")


def test_equal_layouts_are_one_object():
    assert tensors.plain((2, 3)) is tensors.strided((2, 3), (3, 1))
    assert tensors.plain((2, 3)) is not tensors.plain((3, 2))
    assert tensors.plain((2, 3)).plain and not tensors.strided((2, 3), (1, 2)).plain


@pytest.mark.parametrize("channels", [3, 16, 20])
def test_reorder_to_the_layout_of_a_convolution_and_back(channels):
    x = random(2, channels, 7, 5)
    conv = primitives.convolution(
        tensors.any_layout(x.shape),
        tensors.any_layout((32, channels, 3, 3)),
        None,
        tensors.any_layout((2, 32, 7, 5)),
        (1, 1),
        (0, 0),
        (1, 1),
        (1, 1),
    )
    np.testing.assert_array_equal(conversion.to_numpy(put(x, conv.desc(Arg.SRC))), x)


@pytest.mark.parametrize("stride, pad", [(1, 1), (2, 0), (3, 2)])
def test_convolution(stride, pad):
    x, w, b = random(2, 5, 9, 9), random(7, 5, 3, 3), random(7)
    expected = correlate(x, w, stride, pad) + b[:, None, None]
    conv = primitives.convolution(
        tensors.any_layout(x.shape),
        tensors.any_layout(w.shape),
        tensors.plain(b.shape),
        tensors.any_layout(expected.shape),
        (stride,) * 2,
        (0, 0),
        (pad,) * 2,
        (pad,) * 2,
    )
    y = tensors.Tensor(conv.desc(Arg.DST))
    conv.run(
        {
            Arg.SRC: put(x, conv.desc(Arg.SRC)),
            Arg.WEIGHTS: put(w, conv.desc(Arg.WEIGHTS)),
            Arg.BIAS: tensors.of_array(b),
            Arg.DST: y,
        }
    )
    np.testing.assert_allclose(conversion.to_numpy(y), expected, rtol=1e-4, atol=1e-4)


def test_relu_after_convolution_as_post_operation():
    x, w = random(1, 4, 6, 6), random(8, 4, 3, 3)
    conv = primitives.convolution(
        tensors.any_layout(x.shape),
        tensors.any_layout(w.shape),
        None,
        tensors.any_layout((1, 8, 4, 4)),
        (1, 1),
        (0, 0),
        (0, 0),
        (0, 0),
        post=(("eltwise", Alg.RELU, 0.0, 0.0),),
    )
    y = tensors.Tensor(conv.desc(Arg.DST))
    conv.run({Arg.SRC: put(x, conv.desc(Arg.SRC)), Arg.WEIGHTS: put(w, conv.desc(Arg.WEIGHTS)), Arg.DST: y})
    np.testing.assert_allclose(conversion.to_numpy(y), np.maximum(correlate(x, w, 1, 0), 0), rtol=1e-4, atol=1e-5)


def test_primitives_are_made_once():
    desc = tensors.plain((3, 4))
    assert primitives.eltwise(Alg.RELU, desc, desc) is primitives.eltwise(Alg.RELU, desc, desc)


def test_in_place_execution_and_moved_buffers():
    desc = tensors.plain((4,))
    x = tensors.of_array(np.array([-1, 2, -3, 4], np.float32))
    relu = primitives.eltwise(Alg.RELU, desc, desc).bind({Arg.SRC: x, Arg.DST: x})
    relu()
    np.testing.assert_array_equal(x.array(), [0, 2, 0, 4])
    x.move(np.array([-5, -6, 7, 8], np.float32))
    relu()
    np.testing.assert_array_equal(x.array(), [0, 0, 7, 8])


def test_concat_and_weighted_sum():
    a, b = random(2, 3), random(2, 4)
    wide = tensors.Tensor(tensors.plain((2, 7)))
    primitives.concat((tensors.plain((2, 3)), tensors.plain((2, 4))), wide.desc, 1).run(
        {Arg.MULTIPLE_SRC: tensors.of_array(a), Arg.MULTIPLE_SRC + 1: tensors.of_array(b), Arg.DST: wide}
    )
    np.testing.assert_array_equal(wide.array(), np.concatenate([a, b], 1))
    total = tensors.Tensor(a_desc := tensors.plain((2, 3)))
    primitives.weighted_sum((a_desc, a_desc), (2.0, -1.0), a_desc).run(
        {Arg.MULTIPLE_SRC: tensors.of_array(a), Arg.MULTIPLE_SRC + 1: tensors.of_array(a), Arg.DST: total}
    )
    np.testing.assert_allclose(total.array(), a, rtol=1e-6)


def test_what_the_library_cannot_do_is_an_exception():
    with pytest.raises(Unsupported):
        desc = tensors.plain((1, 3, 8, 8))
        primitives.batch_normalization(desc, desc, 1e-5, post=(("sum", 1.0),))
    with pytest.raises(OneDNNError, match="float32"):
        tensors.of_array(np.zeros(3))


def test_threads_compute_side_by_side():
    """Every Python thread has its own stream and scratch memory, even for one and the same primitive."""
    x, w = random(4, 16, 12, 12), random(16, 16, 5, 5)
    expected = correlate(x, w, 1, 2)
    conv = primitives.convolution(
        tensors.any_layout(x.shape),
        tensors.any_layout(w.shape),
        None,
        tensors.any_layout(x.shape),
        (1, 1),
        (0, 0),
        (2, 2),
        (2, 2),
    )
    errors = []

    def work():
        for _ in range(10):
            y = tensors.Tensor(conv.desc(Arg.DST))
            conv.run({Arg.SRC: put(x, conv.desc(Arg.SRC)), Arg.WEIGHTS: put(w, conv.desc(Arg.WEIGHTS)), Arg.DST: y})
            if not np.allclose(conversion.to_numpy(y), expected, rtol=1e-3, atol=1e-3):
                errors.append("another thread's numbers")

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**_environment(), **environment}, text=True, capture_output=True
    )


def _environment():
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MINICAFFE_"))}


def test_thread_count_follows_the_environment_and_set_threads():
    code = (
        "from minicaffe import onednn; print(onednn.threads()); onednn.set_threads(3); print(onednn.threads());"
        "onednn.set_threads(None); print(onednn.threads())"
    )
    assert run_python(code, OMP_NUM_THREADS="1").stdout.split() == ["1", "3", "1"]


def test_a_missing_library_is_reported():
    code = "from minicaffe import onednn; print(onednn.available(), onednn.reason())"
    result = run_python(code, MINICAFFE_ONEDNN="/no/such.so")
    assert result.stdout.startswith("False no usable libdnnl.so.3") and "/no/such.so" in result.stdout, result


def test_waiting_is_bounded_unless_the_user_decides():
    code = "import os; from minicaffe import onednn; onednn.available(); print(os.environ.get('GOMP_SPINCOUNT'))"
    assert run_python(code).stdout.strip().isdigit()
    assert run_python(code, OMP_WAIT_POLICY="active").stdout.strip() == "None"
