"""A solver given as a net, a net as a solver, and text as weights: one sentence that names the kind."""

import pytest

from minicaffe.core.stored_weights import open_weights
from minicaffe.errors import MinicaffeError, PrototxtError
from minicaffe.proto import caffe_pb2, parse_text, read_net, read_solver
from minicaffe.proto.kinds import kind_of

NET = 'name: "n" layer { name: "d" type: "Input" top: "x" }  # net: "of.prototxt"\n'
SOLVER = '# layer { }\nnet: "the net.prototxt" base_lr: 0.1 lr_policy: "fixed"\n'


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "file").write_text(text)
        return "file"

    return write


@pytest.mark.parametrize(
    "text, kind",
    [
        (NET, "net"),
        (SOLVER, "solver"),
        ("layers { bottom: 'x' }", "net"),
        ("layer {", "net"),
        ("net_param { layer { name: 'a' } }", "solver"),
        ("train_net: 'layer { }' max_itre: 3", "solver"),
        ("net_param < layer < name: 'a' > > base_lr: 1", "solver"),
        ("name: 'base_lr: 3' # max_iter: 3", ""),
        ("debug_info: true", ""),
        ("item { name: 'cat' id: 1 }", ""),
        ("", ""),
    ],
)
def test_the_kind_is_that_of_the_outermost_fields(text, kind):
    assert kind_of(text) == kind


def test_a_solver_is_no_net(file):
    with pytest.raises(PrototxtError, match="^file: expected a net, got a solver: its net is 'the net.prototxt'$"):
        read_net(file(SOLVER))
    with pytest.raises(PrototxtError, match="^prototxt text: expected a net, got a solver$"):
        parse_text("base_lr: 1", caffe_pb2.NetParameter())


def test_a_net_is_no_solver(file):
    with pytest.raises(PrototxtError, match="^file: expected a solver, got a net: a solver has the fields net, base"):
        read_solver(file(NET))


def test_slips_in_a_file_of_the_right_kind_have_their_place(file):
    with pytest.raises(PrototxtError, match=r'^file:1:1: SolverParameter has no field "max_itre"'):
        read_solver(file('max_itre: 3 net: "n"'))
    with pytest.raises(PrototxtError, match=r'^file:1:19: LayerParameter has no field "nam"'):
        read_net(file("layer { top: 'x'  nam: 3 }"))


@pytest.mark.parametrize("text, kind", [(NET, "net"), (SOLVER, "solver")])
def test_text_is_no_weights(file, text, kind):
    with pytest.raises(MinicaffeError, match=f"got text, the prototxt of a {kind}: give the file of weights"):
        with open_weights(file(text)):
            pass
