"""The interface of solvers for scripts."""

import numpy as np
import pytest

import minicaffe as caffe

NET = """layer { type: 'DummyData' name: 'data' top: 'data' top: 'label'
           dummy_data_param { shape { dim: 5 dim: 6 } shape { dim: 5 }
           data_filler { type: 'gaussian' std: 1 } data_filler { type: 'constant' value: 2 } } }
         layer { type: 'InnerProduct' name: 'ip' bottom: 'data' top: 'ip' inner_product_param { num_output: 3
           weight_filler { type: 'gaussian' std: 1 } } }
         layer { type: 'SoftmaxWithLoss' name: 'loss' bottom: 'ip' bottom: 'label' top: 'loss' }"""

SOLVER = """net: '%s' test_iter: 10 test_interval: 10 base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: 'inv'
            gamma: 0.0001 power: 0.75 display: 100 max_iter: 30 snapshot_after_train: false snapshot_prefix: '%s' %s"""

TYPES = {
    "SGD": caffe.SGDSolver,
    "Nesterov": caffe.NesterovSolver,
    "AdaGrad": caffe.AdaGradSolver,
    "RMSProp": caffe.RMSPropSolver,
    "AdaDelta": caffe.AdaDeltaSolver,
    "Adam": caffe.AdamSolver,
}


@pytest.fixture
def solver_file(tmp_path):
    def write(extra="", **replace):
        (tmp_path / "net.prototxt").write_text(NET)
        text = SOLVER % (tmp_path / "net.prototxt", tmp_path / "model", extra)
        for old, new in replace.values():
            text = text.replace(old, new)
        path = tmp_path / "solver.prototxt"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def solver(solver_file):
    return caffe.SGDSolver(solver_file())


def test_solve(solver):
    assert solver.iter == 0
    solver.solve()
    assert solver.iter == 30


def test_step_learns(solver_file):
    solver = caffe.SGDSolver(solver_file(rate=("base_lr: 0.01", "base_lr: 0.5")))
    first = float(solver.net.forward()["loss"])
    solver.step(25)
    assert solver.iter == 25 and float(solver.net.forward()["loss"]) < first


def test_apply_update(solver):
    weights = solver.net.layers[1].blobs[0].data[...]
    weights[...] = 0
    solver.net.layers[1].blobs[0].diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(weights, -0.01, atol=1e-7)


def test_nets_outlive_the_solver(solver_file):
    solver = caffe.SGDSolver(solver_file())
    nets = [solver.net, *solver.test_nets]
    del solver
    assert len(nets) == 2
    total = sum(
        blob.data.sum() + blob.diff.sum()
        for net in nets
        for blob in [*net.blobs.values(), *(b for bs in net.params.values() for b in bs)]
    )
    assert np.isfinite(total)


def test_snapshot_and_restore(solver, solver_file, tmp_path):
    solver.step(3)
    solver.snapshot()
    assert (tmp_path / "model_iter_3.caffemodel").is_file() and (tmp_path / "model_iter_3.solverstate").is_file()
    again = caffe.get_solver(solver_file())
    again.restore(str(tmp_path / "model_iter_3.solverstate"))
    assert again.iter == 3
    np.testing.assert_array_equal(again.net.params["ip"][0].data, solver.net.params["ip"][0].data)
    third = caffe.get_solver(solver_file())
    third.solve(str(tmp_path / "model_iter_3.solverstate"))
    assert third.iter == 30


@pytest.mark.parametrize("name", TYPES)
def test_types(solver_file, name):
    extra = f"type: '{name}'"
    path = solver_file(extra, m=("momentum: 0.9", "" if name in ("AdaGrad", "RMSProp") else "momentum: 0.9"))
    for solver in (caffe.get_solver(path), TYPES[name](path)):
        assert type(solver) is TYPES[name] and solver.type == name
        before = solver.net.params["ip"][0].data.copy()
        solver.step(1)
        assert not np.array_equal(before, solver.net.params["ip"][0].data)


def test_callbacks(solver):
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("ready"))
    solver.step(2)
    assert calls == ["start", "ready"] * 2


def test_param_and_rate(solver):
    assert solver.param.max_iter == 30 and solver.param.display == 100
    solver.param.base_lr = 0.5
    weights = solver.net.params["ip"][1].data
    weights[...] = 0
    solver.net.params["ip"][1].diff[...] = 1
    assert solver.lr == pytest.approx(0.5)
    solver.apply_update()
    np.testing.assert_allclose(weights, -0.5, rtol=1e-6)


def test_share_weights(solver, tmp_path):
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    solver.share_weights(net)
    solver.net.params["ip"][1].data[...] = 7
    assert (net.params["ip"][1].data == 7).all()


def test_weights_that_the_solver_names_are_where_it_begins(solver, solver_file, tmp_path):
    """A comma separates files in the solver's field `weights`, but is part of the name in `copy_from`."""
    ip = solver.net.params["ip"]
    ip[0].data[...], ip[1].data[...] = 3, 4
    solver.net.save(f"{tmp_path}/mine.caffemodel")
    solver.net.save(f"{tmp_path}/mine, once more.caffemodel")
    begun = caffe.SGDSolver(solver_file("weights: 'mine.caffemodel, mine.caffemodel'"))
    for net in (begun.net, begun.test_nets[0]):
        assert np.all(net.params["ip"][0].data == 3) and np.all(net.params["ip"][1].data == 4)
    other = caffe.SGDSolver(solver_file())
    other.net.copy_from(f"{tmp_path}/mine, once more.caffemodel")
    assert np.all(other.net.params["ip"][0].data == 3)
    with pytest.raises(caffe.errors.SnapshotError, match="cannot open the weights 'no.caffemodel'"):
        caffe.SGDSolver(solver_file("weights: 'no.caffemodel'"))
