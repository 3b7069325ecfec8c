"""`minicaffe check`: what it prints, its exit status, and the warnings of `minicaffe train`."""

import json
import os

import pytest

import minicaffe
from minicaffe.checks.running import codes
from minicaffe.proto import caffe_pb2

STATIC = ("--stages", "static")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_sound_project(project, run):
    before = sorted(os.listdir())
    status, out, err = run("check", "--solver", "solver.prototxt", *STATIC)
    assert (status, out, err) == (0, "nothing was found\n", "")
    change(project / "solver.prototxt", "random_seed: 3", "random_seed: 3 solver_mode: GPU")  # computes on the CPU
    assert run("check", "--solver", "solver.prototxt")[0] == 0
    assert sorted(os.listdir()) == before


def test_warnings_leave_the_status_0(project, run):
    change(
        project / "net.prototxt",
        'weight_filler { type: "xavier" } } }\nlayer { name: "drop"',
        '} }\nlayer { name: "drop"',
    )
    change(project / "solver.prototxt", "stepsize: 3", "stepsize: 3 power: 2")
    status, out, _ = run("check", "--solver", "solver.prototxt", *STATIC)
    assert status == 0
    assert "warning no-weight-filler: layer 'conv'\n    the weights start at constant 0" in out
    assert "warning unused-solver-field: solver: power\n" in out
    assert out.endswith("\n2 warnings; docs/check.md has a paragraph for each code\n")
    assert all(len(line) <= 100 for line in out.splitlines()) and "\x1b" not in out


def test_an_error_is_status_1(project, run):
    change(project / "net.prototxt", "SoftmaxWithLoss", "Softmax")
    change(project / "net.prototxt", 'bottom: "ip" bottom: "label" top: "loss"', 'bottom: "ip" top: "loss"')
    status, out, _ = run("check", "--solver", "solver.prototxt", *STATIC)
    assert status == 1 and "error no-loss: net 'tiny'\n" in out and "1 error; docs" in out


def test_the_same_sentence_is_printed_once(project, run):
    for layer in ("conv", "ip"):
        change(
            project / "net.prototxt",
            f'name: "{layer}"',
            f'name: "{layer}" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}',
        )
    change(project / "solver.prototxt", "base_lr: 0.05", "")
    out = run("check", "--solver", "solver.prototxt", *STATIC)[1]
    assert out.count("error ") == 2 and "of 2 layer(s) with parameters (conv, ip)" in out.replace("\n    ", " ")
    assert out.endswith("2 errors; docs/check.md has a paragraph for each code\n")


def test_json_is_the_list_and_nothing_else(project, run):
    change(project / "solver.prototxt", "gamma: 0.5", "")
    status, out, err = run("check", "--solver", "solver.prototxt", "--json", *STATIC)
    assert status == 0 and err == ""
    (found,) = json.loads(out)
    assert found == {
        "level": "warning", "code": "missing-solver-field", "where": "solver: gamma",
        "text": 'lr_policy "step" reads gamma, which is not given: the rate is 0 from iteration 3 on: write '
                'gamma: 0.1, or lr_policy: "fixed"',
    }  # fmt: skip
    change(project / "solver.prototxt", "stepsize: 3", "stepsize: 3 gamma: 1")
    assert run("check", "--solver", "solver.prototxt", "--json", *STATIC)[1] == "[]\n"


@pytest.mark.parametrize("text", ["net: 3", 'net: "absent.prototxt"', "", 'net: "net.prototxt" lr_polcy: "step"'])
def test_files_that_cannot_be_read_are_findings(project, run, text):
    (project / "solver.prototxt").write_text(text)
    status, out, _ = run("check", "--solver", "solver.prototxt", "--json")
    (found, *_) = json.loads(out)
    assert status == 1 and found["level"] == "error" and found["code"] in ("prototxt-invalid", "solver-invalid")


def test_usage(project, run):
    for words, expected in (
        ((), "need a solver definition to check: give -solver FILE"),
        (("--solver", "absent"), "there is no file 'absent'"),
        (("--solver", "solver.prototxt", "--weights", "absent"), "there is no file 'absent'"),
        (("--solver", "solver.prototxt", "--deploy", "absent"), "there is no file 'absent'"),
        (
            ("--solver", "solver.prototxt", "--stages", "statics"),
            "expected stages of static, data, batch, got 'statics'",
        ),
    ):
        status, _, err = run("check", *words)
        assert status == 1 and expected in err


def test_levels_and_stages_choose_layers(project, run):
    extra = 'layer { name: "e" type: "EuclideanLoss" bottom: "ip" bottom: "ipp" include { stage: "loud" } }'
    (project / "net.prototxt").write_text((project / "net.prototxt").read_text() + extra)
    assert run("check", "--solver", "solver.prototxt", *STATIC)[0] == 0
    status, out, _ = run("check", "--solver", "solver.prototxt", "--stage", "loud", *STATIC)
    assert status == 1 and "error net-invalid" in out


def test_names_cannot_control_the_terminal(project, run):
    change(project / "net.prototxt", 'name: "conv"', 'name: "co\\n\\033[2Jnv"')
    change(project / "net.prototxt", 'kernel_size: 3 weight_filler { type: "xavier" }', "kernel_size: 3")
    out = run("check", "--solver", "solver.prototxt", *STATIC)[1]
    assert "\x1b" not in out and r"layer 'co\n\x1b[2Jnv'" in out


# -- the function ------------------------------------------------------------------------------------------------------


def test_a_solver_parameter_and_a_net_parameter(project):
    param = caffe_pb2.SolverParameter(net="net.prototxt", lr_policy="fixed", max_iter=1)
    kept = param.SerializeToString()
    deploy = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="other", type="PReLU", bottom=["ip"])])
    found = minicaffe.check(param, deploy=deploy, stages=("static",))
    assert [(each.level, each.code) for each in found] == [
        ("error", "no-base-lr"), ("warning", "deploy-differs"), ("info", "no-display"), ("info", "layer-in-no-net")
    ]  # fmt: skip
    assert found[-1].text.endswith("leaves it out of the train net, and there is no test net")
    assert param.SerializeToString() == kept


def test_it_leaves_no_trace(project):
    def weights():
        minicaffe.set_random_seed(1)
        first = minicaffe.Net("net.prototxt", phase=minicaffe.TRAIN)
        minicaffe.check("solver.prototxt")
        return [
            first.params["conv"][0].data,
            minicaffe.Net("net.prototxt", phase=minicaffe.TRAIN).params["conv"][0].data,
        ]

    minicaffe.set_random_seed(1)
    expected = [minicaffe.Net("net.prototxt", phase=minicaffe.TRAIN).params["conv"][0].data for _ in range(2)]
    for a, b in zip(weights(), expected):
        assert (a == b).all()


# -- train -------------------------------------------------------------------------------------------------------------


def test_train_logs_warnings_and_goes_on(project, run):
    change(project / "net.prototxt", 'kernel_size: 3 weight_filler { type: "xavier" }', "kernel_size: 3")
    change(project / "solver.prototxt", "gamma: 0.5", "gamma: 0.5 power: 1")
    status, _, log = run("train", "--solver", "solver.prototxt")
    warned = [line.split("] ", 1)[1] for line in log.splitlines() if line.startswith("W")]
    assert status == 0 and "Optimization Done." in log
    assert len(warned) == 2
    assert warned[0].startswith("layer 'conv': the weights start at constant 0, because there is no weight_filler")
    assert warned[0].endswith("(no-weight-filler in docs/check.md)")
    assert warned[1].startswith("solver: power: power has no effect") and warned[1].endswith(
        "(unused-solver-field in docs/check.md)"
    )
    status, _, log = run("train", "--solver", "solver.prototxt", "--snapshot", "tiny_iter_5.solverstate.h5")
    assert status == 0 and "no-weight-filler" not in log and "unused-solver-field" in log
    status, _, log = run("train", "--solver", "solver.prototxt", "--weights", "tiny_iter_5.caffemodel.h5")
    assert status == 0 and "no-weight-filler" not in log


def test_a_solver_state_at_max_iter(project, run):
    run("train", "--solver", "solver.prototxt")
    last = "tiny_iter_8.solverstate.h5"
    assert os.path.exists(last)
    status, _, log = run("train", "--solver", "solver.prototxt", "--snapshot", last)
    warned = [line.split("] ", 1)[1] for line in log.splitlines() if line.startswith("W")]
    assert status == 0 and warned == [
        "solver: max_iter: the solver state is of iteration 8, and max_iter is 8, so no iteration is run: write a "
        "larger max_iter (no-iterations in docs/check.md)"
    ]
    check = ("check", "--solver", "solver.prototxt", *STATIC, "--snapshot")
    assert "warning no-iterations: solver: max_iter\n" in run(*check, last)[1]
    assert run(*check, "tiny_iter_5.solverstate.h5")[1] == "nothing was found\n"
    assert "error weights-invalid" in run(*check, "tiny_iter_5.caffemodel.h5")[1]
    status, _, err = run(*check, last, "--weights", "tiny_iter_5.caffemodel.h5")
    assert status == 1 and "give -snapshot to check a resumed training or -weights" in err


def test_train_is_silent_on_a_sound_project(project, run):
    log = run("train", "--solver", "solver.prototxt")[2]
    assert not [line for line in log.splitlines() if line.startswith("W")]
    assert log.count("The NetState phase") == 1  # of the train net: the checks do not log it again


# -- documentation -----------------------------------------------------------------------------------------------------


def test_codes_are_names():
    assert all(code == code.lower().strip("-") and " " not in code for code in codes())


# -- a prototxt alone, and what is unknown in it -----------------------------------------------------------------------

UNKNOWN = """
layer { name: "a" type: "TRT" bottom: "ip" top: "a" trt_param { top_k: 2 } }
layer { name: "b" type: "Rely" bottom: "ip" top: "b" }
layer { name: "c" type: "Concat" bottom: "ip" top: "c" multinode { } concat_param { axs: 1 } }
layer { name: "d" type: "Rely" bottom: "ip" top: "d" concat_param { axs: 1 } }
"""


def test_all_that_is_unknown_is_listed(project, run):
    (project / "net.prototxt").write_text((project / "net.prototxt").read_text() + UNKNOWN)
    places = []
    lines = (project / "net.prototxt").read_text().splitlines()
    for word in ("trt_param", "multinode", "axs", "axs"):
        line = next(i for i, text in enumerate(lines) if word in text and i not in [line for _, line in places[2:]])
        places.append((f"net.prototxt:{line + 1}:{lines[line].index(word) + 1}", line))
    expected = [
        ("prototxt-invalid", places[0][0], "belongs to NVIDIA's Caffe"),
        ("prototxt-invalid", places[1][0], "--skip-unknown-fields reads on without it"),
        ("prototxt-invalid", places[2][0], 'ConcatParameter has no field "axs" (did you mean'),
        ("prototxt-invalid", places[3][0], 'ConcatParameter has no field "axs" (did you mean'),
        ("net-invalid", "layer 'a'", 'unknown type "TRT", it belongs to NVIDIA\'s Caffe; register a layer of your own'),
        ("net-invalid", "layer 'b'", 'unknown type "Rely" (did you mean "ReLU"'),
        ("net-invalid", "layer 'd'", 'unknown type "Rely" (did you mean "ReLU"'),
    ]
    for words in (["net.prototxt"], ["solver.prototxt"], ["--solver", "solver.prototxt"]):
        status, out, err = run("check", *words, "--json")
        found = [(each["code"], each["where"], each["text"]) for each in json.loads(out)]
        assert status == 1 and err == ""
        assert [each[:2] for each in found] == [each[:2] for each in expected]
        assert all(text in each[2] for each, (_, _, text) in zip(found, expected))
    assert [each.text for each in minicaffe.check("solver.prototxt")] == [each[2] for each in found]
    out = run("check", "net.prototxt")[1]
    assert f"error prototxt-invalid: {places[2][0]}, {places[3][0].removeprefix('net.prototxt:')}\n" in out
    assert "error net-invalid: layer 'b', layer 'd'\n" in out and out.endswith(
        "7 errors; docs/check.md has a paragraph for each code\n"
    )


def test_unknown_types_are_listed_where_all_fields_are_known(project, run):
    change(project / "net.prototxt", '"Dropout"', '"Dropuot"')
    change(project / "net.prototxt", '"Accuracy"', '"Acuracy"')
    for words in (["net.prototxt"], ["solver.prototxt"]):
        status, out, _ = run("check", *words)
        assert status == 1 and "layer 'drop'" in out and "layer 'accuracy'" in out and "2 errors;" in out


def test_the_prototxt_of_a_net(project, run):
    assert run("check", "net.prototxt")[:2] == (0, "nothing was found\n")
    change(project / "net.prototxt", 'top: "accuracy"', 'top: "accuracy" bottom: "absent"')
    status, out, _ = run("check", "net.prototxt")
    assert status == 1 and "error net-invalid: net.prototxt in TEST\n" in out and "absent" in out
    (project / "net.prototxt").write_text("layer {")
    status, out, _ = run("check", "net.prototxt")
    assert status == 1 and "error prototxt-invalid: net.prototxt\n" in out
    (project / "net.prototxt").write_text("")
    assert run("check", "net.prototxt")[0] == 1


def test_the_prototxt_of_a_net_for_one_phase(project, run):
    """Its data layer is in TRAIN alone: TEST is left out."""
    rule, shape = "include { phase: TRAIN }", "dummy_data_param { shape { dim: 2 } }"
    data = f'layer {{ name: "d" type: "DummyData" top: "d" {rule} {shape} }}'
    layer = 'layer { name: "p" type: "Power" bottom: "d" top: "p" }'
    (project / "one.prototxt").write_text(data + layer)
    assert run("check", "one.prototxt")[:2] == (0, "nothing was found\n")
    (project / "one.prototxt").write_text(data + layer.replace('"d"', '"e"'))
    status, out, _ = run("check", "one.prototxt")
    assert status == 1 and "in TRAIN" in out and "in TEST" not in out
    (project / "one.prototxt").write_text(layer)
    status, out, _ = run("check", "one.prototxt")
    assert status == 1 and "in TRAIN" in out and "in TEST" in out
    (project / "one.prototxt").write_text(data.replace("include", "exclude { phase: TEST } include") + layer)
    status, out, _ = run("check", "one.prototxt")
    assert status == 1 and "both include and exclude" in " ".join(out.split()) and out.count("net-invalid") == 1


def test_skipped_fields_are_no_errors(project, run, caplog):
    change(project / "net.prototxt", 'type: "Dropout"', 'type: "Dropout" multinode { bw: 8 }')
    status, out, _ = run("check", "net.prototxt")
    assert status == 1 and "--skip-unknown-fields" in " ".join(out.split())
    assert run("check", "net.prototxt", "--skip-unknown-fields")[:2] == (0, "nothing was found\n")
    assert run("check", "solver.prototxt", "--skip_unknown_fields", *STATIC)[0] == 0
    assert run("check", "net.prototxt", "--noskip-unknown-fields")[0] == 1
    status, out, err = run("summarize", "net.prototxt")
    assert status == 1 and "it changes no result: --skip-unknown-fields reads on without it" in err
    assert run("summarize", "net.prototxt", "--skip-unknown-fields")[0] == 0
    assert "left out LayerParameter.multinode, which change no result" in caplog.text
    status, _, log = run("train", "--solver", "solver.prototxt", "--skip-unknown-fields")
    assert status == 0 and log.count("net.prototxt: left out LayerParameter.multinode") >= 1
    assert run("train", "--solver", "solver.prototxt")[0] == 1


def test_unknown_types_of_a_net_inside_a_solver(project, run):
    net = 'net_param { layer { name: "a" type: "Qq" hole: 1 } layer { name: "b" type: "Zz" } }'
    (project / "inside.prototxt").write_text(net)
    out = run("check", "--solver", "inside.prototxt", *STATIC)[1]
    assert 'LayerParameter has no field "hole"' in out and 'unknown type "Qq"' in out and 'unknown type "Zz"' in out
