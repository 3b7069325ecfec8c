"""Names with control characters are escaped in what commands print, log and draw."""

import csv
import io
import logging
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe.cli import main
from minicaffe.cli.confusion import Confusion
from minicaffe.cli.progress import StatusLine
from minicaffe.cli.tensorboard import EventWriter
from minicaffe.errors import NetError
from minicaffe.glog import GlogFormatter, PrintableFormatter
from minicaffe.progress.counting import Progress
from minicaffe.progress.plain import PlainLines

NAME = "a\x1b[31mb\x07\r\u202e$x_{1$"
SHOWN = r"a\x1b[31mb\x07\x0d\u202e$x_{1$"
QUOTED = '"a\\033[31mb\\007\\r\\342\\200\\256$x_{1$"'
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]")

NET = """name: @
layer { name: "in" type: "DummyData" top: "x" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 6 dim: 6 } shape { dim: 2 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: @ type: "Convolution" bottom: "x" top: @ convolution_param { num_output: 4 kernel_size: 3
  weight_filler { type: "xavier" } } }
layer { name: "bn @" type: "BatchNorm" bottom: @ top: @ }
layer { name: "ip" type: "InnerProduct" bottom: @ top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss @" }
"""
DEPLOY = """name: @ input: "x" input_shape { dim: 1 dim: 3 dim: 6 dim: 6 }
layer { name: @ type: "Convolution" bottom: "x" top: @ convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: @ top: "ip" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" display: 1 max_iter: 2 snapshot: 2 snapshot_prefix: "s"
    test_iter: 1 test_interval: 1 random_seed: 1"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder with nets whose names have control characters, weights, and an image of such a name."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("net.prototxt", NET), ("deploy.prototxt", DEPLOY)):
        for word in ("loss", "bn"):
            text = text.replace(f'"{word} @"', QUOTED.replace('"a', f'"{word} a'))
        (tmp_path / name).write_text(text.replace("@", QUOTED), encoding="utf-8")
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    minicaffe.Net("deploy.prototxt", minicaffe.TEST).save("w.caffemodel")
    (tmp_path / f"dir{NAME}").mkdir()
    Image.fromarray(np.full((6, 6, 3), 99, np.uint8)).save("image\x1b[2J.png")
    (tmp_path / "list.txt").write_text(f"{IMAGE} 0\n")
    (tmp_path / "labels.txt").write_bytes(b"=cat\x1b[31m\n\xff\xfedog$\n")
    mean = minicaffe.io.array_to_blobproto(np.zeros((1, 3, 2, 2), np.float32))
    (tmp_path / "mean.binaryproto").write_bytes(mean.SerializeToString())
    (tmp_path / "windows.csv").write_text("filename,ymin,xmin,ymax,xmax\nimage\x1b[2J.png,0,0,5,5\n")
    return tmp_path


NET_FLAGS = ("--model_def", "deploy.prototxt", "--pretrained_model", "w.caffemodel")
IMAGE = "image\x1b[2J.png"


@pytest.mark.parametrize(
    "words",
    [
        ("summarize", "net.prototxt"),
        ("summarize", "deploy.prototxt", "--max_width", "500"),
        ("draw", "net.prototxt", f"{NAME}.svg"),
        ("draw", "net.prototxt", f"{NAME}.png"),
        ("show", "w.caffemodel", f"{NAME}.svg", "--model", "deploy.prototxt", "--image", IMAGE),
        ("show", "w.caffemodel", "o.png", "--layer", NAME),
        ("time", "--model", "net.prototxt", "--iterations", "1", "--log", f"{NAME}.log"),
        ("test", "--model", "net.prototxt", "--weights", "w.caffemodel", "--iterations", "1"),
        ("train", "--solver", "solver.prototxt", "--log", "train.log", "--tensorboard", "events"),
        ("calibrate", "--solver", "solver.prototxt", "--weights", "w.caffemodel", NAME, "--iterations", "1", "--test"),
        ("infer", "deploy.prototxt", "w.caffemodel", IMAGE, "--labels", "labels.txt", "--output", f"{NAME}.csv"),
        ("infer", "deploy.prototxt", "w.caffemodel", IMAGE, "--blob", "ip", "--blob", NAME, "--labels", "labels.txt"),
        ("classify", IMAGE, "out.npy", *NET_FLAGS, "--images_dim", "6,6", "--labels", "labels.txt"),
        ("cpp_classification", "deploy.prototxt", "w.caffemodel", "mean.binaryproto", "labels.txt", IMAGE),
        ("detect", "windows.csv", f"{NAME}.csv", *NET_FLAGS, "--context_pad", "0"),
        ("extract_features", "w.caffemodel", "net.prototxt", NAME, f"db{NAME}", "1", "leveldb"),
        ("convert_annoset", "./", "list.txt", f"db{NAME}"),
        ("get_image_size", ".", "list.txt", f"{NAME}.txt"),
        ("create_label_map", "labels.txt", f"{NAME}.prototxt"),
        ("show", "--detections", IMAGE, f"{NAME}.png"),
        ("install-shims", f"dir{NAME}"),
        ("upgrade_net_proto_text", "net.prototxt", f"{NAME}.prototxt"),
        ("export", "deploy.prototxt", "w.caffemodel", f"{NAME}.onnx"),
        ("check", "--solver", "solver.prototxt", "--deploy", "deploy.prototxt"),
        ("fold", "deploy.prototxt", "w.caffemodel", f"{NAME}.prototxt", "--verbose"),
    ],
    ids=lambda words: " ".join(words[:1]),
)
def test_nothing_controls_the_terminal(folder, run, words):
    status, out, err = run(*words)
    assert status == 0, err
    assert not CONTROL.search(out + err)
    assert r"\x1b" in out + err
    for path in folder.rglob("*.svg"):
        ElementTree.parse(path)
    for path in (*folder.rglob("*.log"), *folder.rglob("a*.csv")):
        assert not CONTROL.search(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words",
    [
        ("summarize", f"{NAME}.prototxt"),
        (f"summarise{NAME}",),
        ("summarize", "net.prototxt", f"--{NAME}"),
        ("summarize", "net.prototxt", "-w", NAME),
        ("draw", "net.prototxt", NAME),
        ("time", "--model", NAME),
        ("show", "\udcff.caffemodel"),
        ("show", "w.caffemodel", "--layer", "\udcff"),
        ("plot", f"{NAME}.log"),
        ("plot", "a\nminicaffe: done\x1b.log"),
        ("extract_seconds", f"{NAME}\n", "out"),
        ("data", NAME),
        ("convert_annoset", "--voc", NAME, "--set", NAME, "db"),
        ("convert_annoset", "--coco", NAME, "--set", NAME, "db"),
        ("show", "--detections", NAME),
    ],
)
def test_errors_are_escaped(folder, run, words):
    status, out, err = run(*words)
    assert status == 1 and err.count("\n") == 1
    assert not CONTROL.search(out + err)
    assert "\\x" in err


def test_an_error_is_escaped_once_and_names_the_layer_once(folder):
    (folder / "x.prototxt").write_text(f'layer {{ name: {QUOTED} type: "ReLU" bottom: "no" top: "no" }}')
    with pytest.raises(NetError) as caught:
        minicaffe.Net("x.prototxt", minicaffe.TEST)
    assert str(caught.value).count(SHOWN) == 1
    assert NAME in caught.value.args[0]


@pytest.mark.parametrize("name", [NAME, "<&>\"'", "]]>", "\ufffe\uffff\0", "\ud800", "a\nb"])
def test_drawings_are_xml(name):
    from minicaffe.draw import draw_net
    from minicaffe.proto import caffe_pb2, parse_text

    quoted = '"' + "".join(f"\\{byte:03o}" for byte in name.encode("utf-8", "replace")) + '"'
    text = NET.replace('"loss @"', '"loss"').replace('"bn @"', '"bn"').replace("@", quoted)
    net = parse_text(text, caffe_pb2.NetParameter())
    for rankdir in ("TB", "LR"):
        drawing = draw_net(net, rankdir, "svg", minicaffe.TRAIN, True).decode()
        shown = "".join(ElementTree.fromstring(drawing).itertext())
        assert not CONTROL.search(drawing) and "Convolution" in shown


def test_tables_quote_formulas(folder, run):
    (folder / "x.log").write_text(
        "I0804 10:22:42.0 1 s.cpp:1] Solving x\nI0804 10:22:42.0 1 s.cpp:1] Iteration 1, loss = 0.5\n"
        "I0804 10:22:42.0 1 s.cpp:1]     Train net output #0: =HYPERLINK(1) = -0.5 (* 1 = -0.5 loss)\n"
    )
    assert run("parse_log", "x.log", ".")[0] == 0
    head, row = csv.reader((folder / "x.log.train").read_text().splitlines())
    assert head[-1] == "'=HYPERLINK(1)" and float(row[-1]) == -0.5


def test_confusion_shows_class_names_escaped(folder, run):
    net = minicaffe.Net("net.prototxt", minicaffe.TEST)
    matrix = Confusion(net, "labels.txt")
    net.forward()
    matrix.add_batch()
    assert not CONTROL.search(matrix.table())
    for name in ("c.csv", "c.svg"):
        matrix.show(name)
        assert not CONTROL.search((folder / name).read_text(encoding="utf-8"))
    assert (folder / "c.csv").read_text(encoding="utf-8").split("\n")[0].split(",")[1] == r"'=cat\x1b[31m"


def test_warnings_of_commands_without_a_log(folder, monkeypatch, capfd):
    logger = logging.getLogger("minicaffe")
    monkeypatch.setattr(logger, "propagate", False)  # without pytest's handlers
    monkeypatch.setattr("minicaffe.cli.entry._run", lambda words: logger.warning("layer '%s'", NAME))
    main([])
    assert capfd.readouterr().err == f"layer '{SHOWN}'\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_status_and_progress_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    status = StatusLine(Terminal())
    status.set(f"{NAME}\n 50%", now=True)
    assert not CONTROL.search(status.stream.getvalue().removeprefix("\r\x1b[K"))
    assert "\n" not in status.stream.getvalue()
    stream = io.StringIO()
    with Progress(NAME, 3, display=PlainLines(stream)) as progress:
        progress(3)
        progress._display.keep()
    assert SHOWN in stream.getvalue()


def test_log_files_of_scripts(tmp_path, monkeypatch):
    logger = logging.getLogger("minicaffe")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    minicaffe.init_log(0, str(tmp_path / "log"))
    minicaffe.log(NAME)
    for handler in logger.handlers:
        handler.close()
    assert (tmp_path / "log").read_text(encoding="utf-8").endswith(f"] {SHOWN}\n")


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("a%s", ("b\nI0101 forged\x1b",), r"ab\nI0101 forged\x1b"),
        ("a%s\n", ("b\nc",), r"ab\nc"),
        ("net:\n%s", ("a\nb\x1b\n",), "net:\na\nb\\x1b"),
        ("a\nb%", (), "a\nb%"),
        ("%10s\tforward", ("x",), "         x\tforward"),
    ],
)
def test_a_name_adds_no_line_to_the_log(message, arguments, expected):
    record = logging.LogRecord("minicaffe", logging.INFO, "net.py", 7, message, arguments, None)
    assert GlogFormatter().format(record).partition("] ")[2] == expected
    assert PrintableFormatter().format(record) == expected


def test_tags_of_tensorboard(tmp_path):
    with EventWriter(tmp_path) as writer:
        writer.add(1, {f"train/{NAME}\udcff": 0.5})
    (file,) = tmp_path.iterdir()
    assert f"train/{SHOWN}\\xff".encode() in file.read_bytes()
