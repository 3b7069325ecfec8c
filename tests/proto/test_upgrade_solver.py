"""SolverParameter: solver_type, snapshot_prefix, nets inside."""

import pytest

from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, parse_text, read_solver, upgrade_solver


def solver(text):
    return parse_text(text, caffe_pb2.SolverParameter())


@pytest.mark.parametrize(
    "old, new",
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
        ("5", "Adam"),
    ],
)
def test_solver_type(old, new):
    result = upgrade_solver(solver(f"solver_type: {old}"))
    assert result.type == new
    assert not result.HasField("solver_type")


def test_both_types_are_an_error():
    with pytest.raises(PrototxtError, match="expected either type or the older solver_type, got both"):
        upgrade_solver(solver('solver_type: ADAM type: "Adam"'))


def test_new_solvers_stay_as_they_are():
    assert upgrade_solver(solver('base_lr: 1 type: "Adam"')) == solver('base_lr: 1 type: "Adam"')


def test_nets_inside_are_upgraded():
    result = upgrade_solver(
        solver(
            "net_param { layers { type: RELU } } test_net_param { layers { type: TANH } } "
            "train_net_param { layers { type: BNLL } }"
        )
    )
    assert result.net_param.layer[0].type == "ReLU"
    assert result.test_net_param[0].layer[0].type == "TanH"
    assert result.train_net_param.layer[0].type == "BNLL"


def test_fork_fields_are_a_warning(caplog):
    upgrade_solver(
        solver(
            'eval_type: "detection" min_lr: 1 base_lr: 1 momentum_policy: "fixed" rampup_interval: 5 '
            "local_lr_auto: true"
        )
    )
    assert [record.getMessage() for record in caplog.records] == [
        "solver: min_lr, local_lr_auto are a fork's and not applied"
    ]


@pytest.mark.parametrize(
    "given, expected",
    [
        ("", "{folder}/my_solver"),
        ('snapshot_prefix: "{folder}"', "{folder}/my_solver"),
        ('snapshot_prefix: "{folder}/"', "{folder}/my_solver"),
        ('snapshot_prefix: "{folder}/run"', "{folder}/run"),
        ('snapshot_prefix: ""', ""),
    ],
)
def test_snapshot_prefix(tmp_path, given, expected):
    path = tmp_path / "my_solver.prototxt"
    path.write_text(given.format(folder=tmp_path))
    assert read_solver(path).snapshot_prefix == expected.format(folder=tmp_path)


def test_errors_name_file_and_place(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 0.1\nmax_itr: 3\n")
    with pytest.raises(PrototxtError) as error:
        read_solver(path)
    assert str(error.value) == f'{path}:2:1: SolverParameter has no field "max_itr" (did you mean "max_iter"?)'
