"""The upgrade tools."""

import subprocess
import sys
from pathlib import Path

import pytest

from minicaffe.proto import caffe_pb2, convert, read_binary, read_text, write_binary, write_text

TOOLS = Path(caffe_pb2.__file__).resolve().parent.parent.parent / "tools"
OLD = caffe_pb2.NetParameter(layers=[caffe_pb2.V1LayerParameter(name="r", type="RELU", bottom=["d"], top=["d"])])
NEW = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="r", type="ReLU", bottom=["d"], top=["d"])])


def test_net_text(tmp_path):
    source, target = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    write_text(OLD, source)
    assert convert.upgrade_net_proto_text(source, target)
    assert read_text(target, caffe_pb2.NetParameter()) == NEW
    assert not convert.upgrade_net_proto_text(target, target), "nothing is old any more"


def test_net_binary(tmp_path):
    path = tmp_path / "net.caffemodel"
    write_binary(OLD, path)
    assert convert.upgrade_net_proto_binary(path, path)
    assert read_binary(path, caffe_pb2.NetParameter()) == NEW


def test_solver_text(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text("solver_type: NESTEROV base_lr: .1")
    assert convert.upgrade_solver_proto_text(path, path)
    assert path.read_text() == 'base_lr: 0.1\ntype: "Nesterov"\n', "and no snapshot_prefix of this folder"
    assert not convert.upgrade_solver_proto_text(path, path)


@pytest.mark.skipif(not TOOLS.is_dir(), reason="needs the checkout: an installed minicaffe has no tools/")
@pytest.mark.parametrize("tool", ["upgrade_net_proto_text", "upgrade_net_proto_binary", "upgrade_solver_proto_text"])
def test_command_lines(tmp_path, tool):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(TOOLS / f"{tool}.py"), *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    (tmp_path / "in").write_bytes(b"")
    done = run("in", "out")
    assert (done.returncode, (tmp_path / "out").read_bytes()) == (0, b""), done.stderr
    done = run("gone", "out")
    assert done.returncode == 1
    assert done.stderr == "cannot read 'gone': No such file or directory\n"
    assert run("in").returncode == 2
