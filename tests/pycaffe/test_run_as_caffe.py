"""Scripts with `import caffe`, and the names that they use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe

ROOT = Path(minicaffe.__file__).resolve().parent.parent


def run(*words, cwd=None):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "minicaffe.run_as_caffe", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_script_with_submodules_and_arguments(tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 3\n")
    (tmp_path / "script.py").write_text("""
import sys
import beside
import caffe
import caffe.draw, caffe.io, caffe.net_spec, caffe.coord_map, caffe.classifier, caffe.detector, caffe.pycaffe
import caffe.proto.caffe_pb2 as pb
from caffe import layers as L, params as P, NetSpec, to_proto
from caffe._caffe import Net, SGDSolver, Layer
from caffe.pycaffe import Net as Net2
from caffe.proto import caffe_pb2
from caffe.io import Transformer
import minicaffe

assert __name__ == "__main__" and Net is Net2 is caffe.Net is minicaffe.Net
assert caffe.io is minicaffe.io and caffe_pb2 is pb is caffe.proto.caffe_pb2
assert sys.modules["minicaffe.draw"].__spec__.name == "minicaffe.draw"
n = NetSpec()
n.data = L.Input(shape=dict(dim=[1, 2]))
n.ip = caffe.layers.InnerProduct(n.data, num_output=beside.VALUE)
assert n.to_proto().layer[1].inner_product_param.num_output == 3 and P.Pooling.AVE == 1
try:
    import caffe.model_libs
except ModuleNotFoundError as error:
    print(error)
print(sys.argv[1:])
""")
    done = run(str(tmp_path / "script.py"), "--flag", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "['--flag', 'x']"), done.stderr
    assert "No module named 'caffe.model_libs'" in done.stdout


def test_modules_that_only_a_checkout_has(tmp_path):
    """SSD's scripts import caffe.model_libs, from the folder `python` of its checkout."""
    sources = tmp_path / "python" / "caffe"
    (sources / "more").mkdir(parents=True)
    (sources / "__init__.py").write_text("raise ImportError('of the checkout')\n")
    (sources / "io.py").write_text("raise ImportError('of the checkout')\n")
    (sources / "model_libs.py").write_text("from caffe import layers as L\nfrom .more.sizes import SIZE\n")
    (sources / "more" / "__init__.py").write_text("")
    (sources / "more" / "sizes.py").write_text("SIZE = 300\n")
    (tmp_path / "script.py").write_text("""
import sys
sys.path.insert(0, "python")
import caffe
from caffe.model_libs import *
import caffe.io, minicaffe.io
assert L is caffe.layers and SIZE == 300 and caffe.io is minicaffe.io
""")
    done = run(str(tmp_path / "script.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_command_and_module(tmp_path):
    (tmp_path / "test_user.py").write_text("""
import unittest
import caffe


class T(unittest.TestCase):
    def test_types(self):
        self.assertIn("ReLU", caffe.layer_type_list())
""")
    done = run("-m", "unittest", "test_user", cwd=tmp_path)
    assert done.returncode == 0 and "OK" in done.stderr, done.stderr
    assert run("-c", "import caffe; print(caffe.TEST)").stdout == "1\n"
    assert "script.py" in run().stdout
    missing = run("nothing.py")
    assert missing.returncode == 1 and "'nothing.py' does not exist" in missing.stderr


@pytest.mark.parametrize("statement", [
    "import cPickle", "from itertools import izip", "xrange(3)", "long(3)",
    "import numpy; numpy.float", "import itertools; itertools.imap", "d.iteritems()",
])  # fmt: skip
def test_an_old_name_names_the_flag(tmp_path, statement):
    net = "from minicaffe.core.containers import ReadOnlyDict; d = ReadOnlyDict({}, '', '')"
    (tmp_path / "old.py").write_text(f"import caffe\n{net}\n\ndef f():\n    {statement}\n\nf()\n")
    done = run("old.py", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    *trace, last = done.stderr.splitlines()
    assert last == "run_as_caffe: --old-names before the script brings this name back"
    frames = [line.split(", ")[1:] for line in trace if line.startswith("  File ")]
    assert frames[:2] == [["line 7", "in <module>"], ["line 5", "in f"]]
    assert len(frames) == 2 or "numpy" in statement and len(frames) == 3  # numpy's own __getattr__


@pytest.mark.parametrize("statement", ["import cpickle", "xrang(3)", "caffe.xrange", "import numpy; numpy.flot"])
def test_other_names_name_no_flag(tmp_path, statement):
    done = run("-c", f"import caffe; {statement}", cwd=tmp_path)
    assert done.returncode == 1 and "--old-names" not in done.stderr


def test_traces_begin_in_the_script(tmp_path):
    (tmp_path / "wrong.py").write_text("print 1\n")
    done = run("wrong.py", cwd=tmp_path)
    assert done.returncode == 1 and "SyntaxError" in done.stderr and "runpy" not in done.stderr
    (tmp_path / "module.py").write_text("1 / 0\n")
    for words in (("module.py",), ("-m", "module"), ("-c", "1 / 0")):
        trace = run(*words, cwd=tmp_path).stderr
        assert trace.count("  File ") == 1 and trace.endswith("ZeroDivisionError: division by zero\n"), trace


def test_gpu_mode_without_a_gpu_names_the_flag(tmp_path):
    without = "import sys; sys.modules['pycuda'] = None; sys.modules['pycuda.driver'] = None"
    done = run("-c", f"{without}; import caffe; caffe.set_mode_gpu()", cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "--cpu before the script, set_mode_gpu() computes on the CPU" in last, done.stderr
    assert run("--cpu", "-c", f"{without}; import caffe; caffe.set_mode_gpu()", cwd=tmp_path).returncode == 0


def test_surface():
    names = """Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver NCCL Timer Layer
        init_log log set_mode_cpu set_mode_gpu set_device get_solver layer_type_list set_random_seed solver_count
        set_solver_count solver_rank set_solver_rank set_multiprocess has_nccl TRAIN TEST Classifier Detector io
        layers params NetSpec
        to_proto __version__ proto""".split()
    assert [name for name in names if not hasattr(minicaffe, name)] == []
    assert minicaffe.proto.caffe_pb2.TRAIN == minicaffe.TRAIN == 0 and minicaffe.TEST == 1


def test_one_solver_unless_a_script_sets_more():
    assert (minicaffe.solver_count(), minicaffe.solver_rank(), minicaffe.has_nccl()) == (1, 0, True)
    minicaffe.set_solver_count(1)
    minicaffe.set_solver_rank(0)
    minicaffe.set_multiprocess(False)
    minicaffe.set_multiprocess(True)


def test_timer_counts_on_until_it_stops():
    timer = minicaffe.Timer()
    timer.start()
    first = timer.ms
    second = timer.ms
    timer.stop()
    assert 0 <= first <= second <= timer.ms == timer.ms
    assert timer.us == pytest.approx(1000 * timer.ms)


def test_log_to_a_file(tmp_path):
    done = run("-c", f"import caffe; caffe.init_log(0, {str(tmp_path / 'log')!r}); caffe.log('hello')")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().endswith("] hello\n")


def test_processes_that_a_script_starts(tmp_path):
    (tmp_path / "script.py").write_text("""
import subprocess, sys
code = "import caffe, caffe.io; from caffe import layers as L; print(L.ReLU, caffe.__file__)"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout)
""")
    done = run(str(tmp_path / "script.py"), cwd=tmp_path)
    assert "<function ReLU" in done.stdout, done.stderr


def test_a_process_without_it_has_no_caffe():
    code = "import importlib.util as u, sys; import minicaffe; sys.exit(u.find_spec('caffe') is not None)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
