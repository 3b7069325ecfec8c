"""Files that a command writes at its end are checked before it begins its work."""

import pytest

from helpers.readers import write_images

LOG = """I0101 00:00:01.000000 1 solver.cpp:1] Solving tiny
I0101 00:00:02.000000 1 solver.cpp:1] Iteration 1, loss = 1
I0101 00:00:02.100000 1 solver.cpp:1] Iteration 1, lr = 0.1
"""

#: command lines with @ in place of what they write, and the function that begins the work
COMMANDS = {
    "show": ("show w.caffemodel @", ".png", "minicaffe.pictures.show.read_weights"),
    "show_samples": ("show --samples solver.prototxt @", ".png", "minicaffe.core.net.Net.of_upgraded"),
    "draw": ("draw net.prototxt @", "", "minicaffe.cli.draw.draw_net_to_file"),
    "plot": ("plot x.log -o @", ".png", "minicaffe.pictures.plot.plot_logs"),
    "plot_training_log": ("plot_training_log 6 @ x.log", ".png", "minicaffe.pictures.plot.plot_chart"),
    "extract_seconds": ("extract_seconds x.log @", "", "minicaffe.pictures.parse_log.extract_seconds"),
    "upgrade": ("upgrade_net_proto_text net.prototxt @", "", "minicaffe.proto.convert.upgrade_net_proto_text"),
    "calibrate": ("calibrate --solver solver.prototxt --weights w.caffemodel @", "", "minicaffe.solvers.nets.load"),
    "fold": ("fold net.prototxt w.caffemodel @", "", "minicaffe.cli.fold.built_net"),
    "export": ("export net.prototxt w.caffemodel @", ".onnx", "minicaffe.cli.export.built_net"),
    "classify": ("classify a.npy @ --model_def net.prototxt --pretrained_model w.caffemodel", "",
                 "minicaffe.cli.classify._inputs"),
    "detect": ("detect a.csv @ --model_def net.prototxt --pretrained_model w.caffemodel", ".csv",
               "minicaffe.cli.classify._read_windows"),
    "compute_image_mean": ("compute_image_mean db @", "", "minicaffe.cli.databases.open_db"),
    "whiten": ("whiten db @", "", "minicaffe.cli.whiten.open_db"),
    "whiten_picture": ("whiten db s.h5 --picture @", ".png", "minicaffe.cli.whiten.open_db"),
    "test_confusion": ("test --model net.prototxt --weights w.caffemodel --confusion @", ".png",
                       "minicaffe.cli.test.built_net"),
    "test_per_class": ("test --model net.prototxt --weights w.caffemodel --per-class @", ".csv",
                       "minicaffe.cli.test.built_net"),
    "test_worst": ("test --model net.prototxt --weights w.caffemodel --worst @", ".png",
                   "minicaffe.cli.test.built_net"),
}  # fmt: skip


@pytest.fixture
def refused(project, run, monkeypatch):
    """A function that runs a command with a target and returns its error; its work must not begin."""
    (project / "x.log").write_text(LOG)
    (project / "w.caffemodel").write_bytes(b"")
    write_images(project / "db", [])

    def call(name: str, target: str) -> str:
        words, _, work = COMMANDS[name]
        with monkeypatch.context() as patch:
            patch.setattr(work, lambda *args, **kwargs: pytest.fail(f"{name} began its work"))
            status, out, err = run(*words.replace("@", target).split())
        assert (status, out) == (1, "")
        return err

    return call


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_folder_that_does_not_exist(refused, name):
    assert "cannot write 'nosuch/x" in refused(name, f"nosuch/x{COMMANDS[name][1]}")


@pytest.mark.parametrize("name", sorted(name for name, (_, ending, _) in COMMANDS.items() if ending))
def test_an_ending_that_cannot_be_written(refused, name):
    assert "x.xyz" in refused(name, "x.xyz")
