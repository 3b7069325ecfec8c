"""The commands and tools for nets, logs and images, called with command lines."""

import csv
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import minicaffe as caffe
from minicaffe.cli import main
from minicaffe.data.image import read_image, resize
from minicaffe.errors import SnapshotError, UsageError
from minicaffe.pictures import show
from minicaffe.pictures.summary import format_table, summarize_net
from minicaffe.proto import caffe_pb2, read_net

TOOLS = Path(caffe.__file__).resolve().parent.parent / "tools"

NET = """name: 'tiny' input: 'data' input_shape { dim: 2 dim: 3 dim: 8 dim: 8 }
    layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv'
            param { name: 'w' lr_mult: 2 } param { decay_mult: 0 }
            convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' } } }
    layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' }
    layer { name: 'ip' type: 'InnerProduct' bottom: 'conv' top: 'ip'
            inner_product_param { num_output: 5 weight_filler { type: 'xavier' } } }
    layer { name: 'prob' type: 'Softmax' bottom: 'ip' top: 'prob' }"""

LOG = """I0804 10:22:42.074671  8318 solver.cpp:218] Solving x
I0804 10:22:43.074671  8318 solver.cpp:218] Iteration 0, loss = 2
I0804 10:22:43.174671  8318 solver.cpp:218]     Train net output #0: loss = 2 (* 1 = 2 loss)
I0804 10:22:44.074671  8318 solver.cpp:218] Iteration 0, lr = 0.1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Create a working folder with net.prototxt, net.caffemodel, cat.png and train.log."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "train.log").write_text(LOG)
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.save("net.caffemodel")
    net.save_hdf5("net.caffemodel.h5")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)).save("cat.png")
    return tmp_path


WITH_NET = ["--model_def", "net.prototxt", "--pretrained_model", "net.caffemodel"]


def test_draw_and_plot(folder, capsys):
    assert main(["draw", "net.prototxt"]) == 0
    assert "4×6×6" in Path("net.svg").read_text()
    assert main(["draw", "-rankdir=LR", "-phase", "ALL", "--display_lrm", "net.prototxt", "net.png"]) == 0
    assert main(["plot", "train.log", "-o", "curve.svg"]) == 0 and Path("curve.svg").exists()
    assert main(["plot", "train.log", "--smooth", "3", "--log"]) == 0 and Path("train.png").exists()
    assert main(["plot_training_log", "6", "chart.png", "train.log"]) == 0 and Path("chart.png").exists()
    assert main(["draw", "none.prototxt"]) == 1
    assert "none.prototxt" in capsys.readouterr().err


def test_logs(folder, capsys):
    assert main(["parse_log", "train.log", ".", "--verbose"]) == 0
    assert Path("train.log.train").read_text() == "NumIters,Seconds,LearningRate,loss\n0.0,1.1,nan,2.0\n"
    assert not Path("train.log.test").exists() and "no lines to write" in capsys.readouterr().out
    assert main(["parse_log", "train.log", "nowhere"]) == 1
    assert main(["extract_seconds", "train.log", "seconds"]) == 0
    assert Path("seconds").read_text() == "1.000000\n2.000000\n"


def test_summarize(folder, capsys):
    assert main(["summarize", "net.prototxt"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:7] == ["layer", "type", "lr_mult", "bottom", "top", "settings", "shape"]
    conv = ["conv", "Convolution", "(w", "x2,", "Dx0)", "data", "->", "conv", "4", "3×3", "2×4×6×6"]
    assert lines[2] == [*conv, "112", "7.78k", "1.15k", "448"]
    assert lines[5][:5] == ["prob", "Softmax", "ip", "->", "prob"]


def test_summary_in_colours():
    net = caffe_pb2.NetParameter()
    net.layer.add(name="a", type="ReLU", bottom=["missing"], top=["out"], loss_weight=[2])
    (row,) = summarize_net(net, colors=True)
    assert row[3] == "\033[41mmissing\033[0m" and row[5] == "2 * \033[1;4;92mout\033[0m"
    assert format_table([["\033[92mab\033[0m", "c"], ["abc", "d"]]) == "\033[92mab\033[0m  c\nabc d"
    assert format_table([["a long name", "x"], ["b", "y"]], max_width=4) == "a long name x\nb   y"


def test_classify(folder, capsys):
    Path("names.txt").write_text("a\nb\nc\nd\ne\n", encoding="utf-8-sig")
    np.save("mean.npy", np.ones((3, 8, 8)))
    flags = [*WITH_NET, "--images_dim", "9,10", "--mean_file", "mean.npy", "--labels", "names.txt"]
    assert main(["classify", "cat.png", "out.npy", *flags]) == 0
    out = capsys.readouterr().out
    assert np.load("out.npy").shape == (1, 5) and "cat.png: " in out and "\ufeff" not in out
    expected = caffe.Classifier(
        "net.prototxt", "net.caffemodel", image_dims=(9, 10), mean=np.ones(3), raw_scale=255, channel_swap=(2, 1, 0)
    ).predict([caffe.io.load_image("cat.png")])
    np.testing.assert_allclose(np.load("out.npy"), expected, rtol=1e-5)
    assert main(["classify", ".", "out2.npy", *flags, "--ext", "png", "--center_only"]) == 0
    np.save("images.npy", np.random.default_rng(1).random((3, 8, 8, 3)))
    assert main(["classify", "images.npy", "out3.npy", *WITH_NET, "--images_dim", "8,8", "--center_only"]) == 0
    assert np.load("out3.npy").shape == (3, 5)


def test_classify_writes_names_where_the_format_has_them(folder, capsys):
    Path("names.txt").write_text("a\nb\nc\nd\ne\n")
    Image.new("RGB", (9, 9)).save("=dog.png")
    flags = [*WITH_NET, "--images_dim", "9,10", "--ext", "png"]
    assert main(["classify", ".", "out.npy", *flags]) == 0
    assert main(["classify", ".", "out.csv", *flags, "--labels", "names.txt"]) == 0
    out = capsys.readouterr().out.splitlines()
    with open("out.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["filename", "a", "b", "c", "d", "e"] and [row[0] for row in rows] == ["./=dog.png", "./cat.png"]
    scores = np.array([row[1:] for row in rows], np.float32)
    assert np.array_equal(scores, np.load("out.npy"))
    best = np.argsort(-scores[1])
    assert out[-1] == "./cat.png: " + ", ".join(f"{'abcde'[i]} {scores[1, i]:.4f}" for i in best)
    assert main(["classify", ".", "out.h5", *flags]) == 0
    with h5py.File("out.h5") as file:
        assert file["filename"][0] == b"./=dog.png" and np.array_equal(file["prob"], scores)


def test_classify_takes_a_binaryproto_mean(folder):
    Path("mean.binaryproto").write_bytes(caffe.io.array_to_blobproto(np.ones((1, 3, 8, 8))).SerializeToString())
    np.save("mean.npy", np.ones(3))
    for name in ("mean.npy", "mean.binaryproto"):
        assert main(["classify", "cat.png", f"{name}.out.npy", *WITH_NET, "--mean_file", name]) == 0
    np.testing.assert_array_equal(np.load("mean.npy.out.npy"), np.load("mean.binaryproto.out.npy"))


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["dog.png", "out.npy", *WITH_NET], "cannot read image dog.png: No such file"),
        (["cat.png", "out.npy", "--model_def", "net.prototxt"], "pretrained_model"),
        (["cat.png", "out.npy", *WITH_NET, "--images_dim", "9"], "height,width, got '9'"),
        (["cat.png", "out.npy", *WITH_NET, "--channel_swap", "b,g,r"], "whole numbers"),
        ([".", "out.npy", *WITH_NET, "--ext", "tif"], "no image named *.tif"),
        (["cat.png", "out.npy", *WITH_NET, "--mean_file", "train.log"], "mean file train.log is no BlobProto"),
        (["cat.png", "out.npy", *WITH_NET, "--mean_file", "empty.npy"], "expected an array (K, H, W) or (K), got"),
        (["cat.png", "out.npy", *WITH_NET, "--mean_file", "empty.binaryproto"], "holds 0 values for shape (0, 3"),
        (["empty.npy", "out.npy", *WITH_NET], "expected images (N, H, W, K), got shape (3, 0, 4)"),
        (["cat.png", "out.npy", *WITH_NET, "--images_dim", "99999,99999"], "99999x99999 has more than 67108864 pixels"),
    ],
)
def test_classify_errors(folder, capsys, words, complaint):
    np.save("empty.npy", np.empty((3, 0, 4)))
    blob = caffe.proto.caffe_pb2.BlobProto(num=0, channels=3, height=4, width=4)
    Path("empty.binaryproto").write_bytes(blob.SerializeToString())
    assert main(["classify", *words]) == 1
    assert complaint in capsys.readouterr().err and not Path("out.npy").exists()


def test_detect(folder):
    Path("windows.csv").write_text("filename, xmin, ymin, xmax, ymax\ncat.png,1,2,9,8\ncat.png,0,0,12,10\n")
    assert main(["detect", "windows.csv", "out.csv", *WITH_NET, "--context_pad", "1"]) == 0
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    boxes = [[r[name] for name in ("ymin", "xmin", "ymax", "xmax")] for r in rows]
    assert boxes == [["2", "1", "8", "9"], ["0", "0", "10", "12"]]
    assert sum(float(rows[0][f"class{i}"]) for i in range(5)) == pytest.approx(1, rel=1e-5)
    assert main(["detect", "windows.csv", "out.h5", *WITH_NET, "--context_pad", "1"]) == 0
    with h5py.File("out.h5") as file:
        assert file["prediction"].shape == (2, 5) and file["filename"][0] == b"cat.png"
        assert file["prediction"][1][2] == pytest.approx(float(rows[1]["class2"]))


@pytest.mark.parametrize(
    "text, words, complaint",
    [
        ("filename,xmin\n", [], "missing column(s) xmax, ymax, ymin"),
        ("filename,xmin,ymin,xmax,ymax\ncat.png,1,2,x,4\n", [], "line 2: expected four numbers"),
        ("xmin,ymin,xmax,ymax,filename\n1,2,3,4\n", [], "line 2: expected four numbers (there is no file name)"),
        ("filename,xmin,ymin,xmax,ymax\n" + "x" * 200000 + ",1,2,3,4\n", [], "field larger than field limit"),
        ("cat.png\n", ["--crop_mode", "selective_search"], "MATLAB"),
    ],
)
def test_detect_errors(folder, capsys, text, words, complaint):
    Path("in.csv").write_text(text)
    assert main(["detect", "in.csv", "out.csv", *WITH_NET, "--context_pad", "1", *words]) == 1
    assert complaint in capsys.readouterr().err and not Path("out.csv").exists()


def test_resize_and_crop_images(folder, capsys):
    Path("list.txt").write_text("cat.png\nnone.png\n")
    words = ["--input", "list.txt", "--input_folder", ".", "--output_folder", "small", "--output_side_length=6"]
    assert main(["resize_and_crop_images", *words]) == 0
    with Image.open("small/cat.png") as picture:
        assert picture.size == (6, 6)
        made = np.asarray(picture)[:, :, ::-1].transpose(2, 0, 1)
    image = read_image("cat.png")
    _, height, width = image.shape
    sides = [6 * side // min(height, width) for side in (height, width)]
    y, x = ((side - 6) // 2 for side in sides)
    assert np.array_equal(made, resize(image, *sides)[:, y : y + 6, x : x + 6])
    out = capsys.readouterr().out
    assert "left out 'none.png'" in out and "1 of 2 images" in out


# -- show --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["net.caffemodel", "net.caffemodel.h5"])
def test_show(folder, capsys, weights):
    assert main(["show", weights, "w.png", "--model", "net.prototxt", "--image", "cat.png"]) == 0
    assert Path("w.png").exists() and Path("w_activations.png").exists()
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:3] == ["conv", "0", "4×3×3×3"]
    assert main(["show", weights, "w.png", "--layer", "ip"]) == 1
    assert "has no filters" in capsys.readouterr().err
    assert main(["show", weights, "w.png", "--image", "cat.png"]) == 1
    assert main(["show", weights, "w.svg", "--model", "net.prototxt", "--image", "cat.png", "--blob", "nob"]) == 1
    assert "no blob 'nob'" in capsys.readouterr().err


def test_weights_of_both_formats_agree(folder):
    binary, hdf5 = show.read_weights("net.caffemodel"), show.read_weights("net.caffemodel.h5")
    assert list(binary) == ["conv", "ip"] and set(hdf5) == {"conv", "ip"}
    for name in binary:
        for a, b in zip(binary[name], hdf5[name]):
            np.testing.assert_array_equal(a, b)


def test_weights_of_layers_of_one_name(tmp_path):
    param = caffe_pb2.NetParameter()
    for value in (1, 2):
        param.layer.add(name="fc").blobs.add(data=[value]).shape.dim.extend([1, 1])
    (tmp_path / "w").write_bytes(param.SerializeToString())
    found = show.read_weights(tmp_path / "w")
    assert {name: blobs[0].item() for name, blobs in found.items()} == {"fc": 1, "fc #2": 2}


def test_mosaic_and_tiles():
    tiles = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
    out = show.mosaic(tiles, columns=2, background=-1)
    assert out.shape == (7, 7)
    np.testing.assert_array_equal(out[1:3, 4:6], tiles[1])
    assert (out[0] == -1).all() and (out[4:6, 4:6] == -1).all()
    filters = np.zeros((2, 3, 2, 2), np.float32)
    filters[0, 0] = 1  # the blue channel of BGR
    colour = show.filter_tiles(filters)
    np.testing.assert_array_equal(colour[0, 0, 0], [0.5, 0.5, 1])
    np.testing.assert_array_equal(show.filter_tiles(filters, bgr=False)[0, 0, 0], [1, 0.5, 0.5])
    assert show.filter_tiles(np.ones((2, 5, 3, 3))).shape == (10, 3, 3)


def test_find_filters():
    deep, first, ones = np.zeros((2, 8, 3, 3)), np.zeros((2, 3, 5, 5)), np.zeros((2, 3, 1, 1))
    assert show.find_filters({"a": [ones], "b": [deep], "c": [first]})[0] == "c"
    assert show.find_filters({"a": [ones], "b": [deep]})[0] == "b"
    with pytest.raises(UsageError, match="larger than 1x1"):
        show.find_filters({"a": [ones]})
    with pytest.raises(UsageError, match="no layer 'conv9' has weights \\(did you mean \"conv1\""):
        show.find_filters({"conv1": [first]}, "conv9")


@pytest.mark.parametrize("values", [[2, 2.0000002], [-3e38, 3.4e38], [0, 1e-45]])
def test_histograms_of_any_range(values):
    """In float32 fifty bins between such values are too narrow or too wide."""
    show.plot_weights({"ip": [np.array(values, np.float32)]})


def test_nets_without_filters_and_numbers_that_are_not_finite():
    weights = {"ip": [np.array([[1, np.nan], [2, np.inf]]), np.zeros(2)]}
    assert show.table(weights)[1][2:] == ["2×2", "1.5", "0.5", "1", "2", "2 not finite"]
    figure = show.plot_weights(weights)
    assert figure.axes[0].get_title().startswith("ip")


def test_weight_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SnapshotError, match="cannot open"):
        show.read_weights(tmp_path / "none")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(SnapshotError, match="no group 'data'"):
        show.read_weights(tmp_path / "x.h5")


# -- as scripts --------------------------------------------------------------------------------------------------------


def test_tools_run_as_scripts(folder):
    def tool(name, *words):
        return subprocess.run([sys.executable, str(TOOLS / f"{name}.py"), *words], capture_output=True, text=True)

    assert tool("draw_net", "net.prototxt", "net.svg").returncode == 0
    widths = Path("net.svg").read_text().split('width="')[1], Path("net.svg").read_text().split('height="')[1]
    assert int(widths[0].split('"')[0]) > int(widths[1].split('"')[0])  # wider than high
    assert "Convolution" in tool("summarize", "net.prototxt").stdout
    assert tool("parse_log", "train.log", "nowhere").stderr.startswith("minicaffe: parse_log: the folder 'nowhere'")


def test_every_tool_answers_help(capsys):
    for name in (
        "classify",
        "detect",
        "parse_log",
        "plot_training_log",
        "extract_seconds",
        "summarize",
        "draw",
        "resize_and_crop_images",
        "show",
        "plot",
    ):
        assert main([name, "--help"]) == 0
        assert f"usage: minicaffe {name}" in capsys.readouterr().out
        assert (TOOLS / f"{name}.py").exists() or name in ("draw", "show", "plot")


def test_shipped_models_can_be_drawn():
    from minicaffe import draw

    drawn = [path for path in (TOOLS.parent / "models").glob("*/*.prototxt") if "solver" not in path.name]
    assert drawn
    for path in drawn:
        assert draw.draw_net(read_net(path), "LR", "svg").startswith(b"<svg")


def test_train_with_the_flags_of_pycaffe(folder):
    Path(
        "train.prototxt"
    ).write_text("""layer { name: 'x' type: 'DummyData' top: 'x' dummy_data_param { shape { dim: 2 } } }
        layer { name: 'loss' type: 'Power' bottom: 'x' top: 'loss' loss_weight: 1 }""")
    Path("solver.prototxt").write_text("net: 'train.prototxt' base_lr: 1 lr_policy: 'fixed' max_iter: 2 display: 1")
    words = [sys.executable, str(TOOLS / "train.py"), "--solver", "solver.prototxt", "--timing"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert "Average Forward pass" in log and "Optimization Done." in log
    missing = subprocess.run([*words[:2], "--solver", "none.prototxt"], capture_output=True, text=True)
    assert missing.returncode == 1 and "none.prototxt" in missing.stderr


def test_train_in_several_processes(folder):
    Path(
        "train.prototxt"
    ).write_text("""layer { name: 'x' type: 'DummyData' top: 'x' dummy_data_param { shape { dim: 2 dim: 3 }
        data_filler { type: 'gaussian' } } }
        layer { name: 'loss' type: 'InnerProduct' bottom: 'x' top: 'loss' loss_weight: 1
                inner_product_param { num_output: 1 } }""")
    Path("solver.prototxt").write_text(
        "net: 'train.prototxt' base_lr: 1 lr_policy: 'fixed' max_iter: 2 snapshot_prefix: 's' display: 1"
    )
    words = [sys.executable, str(TOOLS / "train.py"), "--solver", "solver.prototxt", "--workers", "2"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 ranks over TCP" in done.stderr and done.stderr.count("Optimization Done.") <= 2
    assert Path("s_iter_2.caffemodel").exists()
