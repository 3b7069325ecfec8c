"""The HTTP service of docs/deploy.md under many clients: right answers, none lost, a bounded number at a time."""

import configparser
import http.client
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe.core.settings import restored

pytest.importorskip("python_multipart")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

ROOT = Path(minicaffe.__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "deploy"
CLIENTS = 64
SECONDS = 120  #: after which a server or client counts as hanging
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
PREPROCESS = "preprocess { new_height: 10 new_width: 10 transform_param { crop_size: 8 mean_value: 120 scale: 0.02 } }"


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def module():
    """docs/deploy/service.py."""
    spec = importlib.util.spec_from_file_location("service_of_the_docs", FOLDER / "service.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder with a net, weights, preprocessing and the names of its classes."""
    folder = tmp_path_factory.mktemp("net")
    (folder / "deploy.prototxt").write_text(NET)
    (folder / "preprocess.prototxt").write_text(PREPROCESS)
    (folder / "words.txt").write_text("".join(f"class {k}\n" for k in range(7)))
    minicaffe.set_random_seed(2)
    minicaffe.Net(str(folder / "deploy.prototxt"), minicaffe.TEST).save(str(folder / "net.caffemodel"))
    return folder


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    return [png(rng.integers(0, 256, (10 + i % 3, 10, 3), np.uint8)) for i in range(CLIENTS)]


@pytest.fixture
def make(module, files):
    """Make a Service for the net."""
    with restored():
        names = ("deploy.prototxt", "net.caffemodel", "preprocess.prototxt", "words.txt")
        paths = [str(files / name) for name in names]
        yield lambda workers=2, waiting=4: module.Service(*paths, workers, waiting)


class Running:
    """A server in a thread, at a port chosen by the system."""

    def __init__(self, service):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS)
        self.port = self.socket.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(service.app(), log_config=None, ws="none", lifespan="on"))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        self.socket.close()


@pytest.fixture
def serve(make):
    """Start services; they are stopped at the end."""
    running = []

    def start(service):
        running.append(Running(service))
        return running[-1].port

    yield start
    for each in running:
        each.stop()


def request(port, method, path, body=None, headers=()):
    """Return status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def answer_to(port, text):
    """Return status and text of the answer to the beginning of a request."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        client.sendall(text.encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read().decode()


def form(name, image):
    """Return the body and the headers of a form with one file."""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n\r\n'
    return head.encode() + image + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def until_taken(port, body, headers=()):
    """Return the classes for an image, and how often the service refused it because too many were waiting."""
    refusals = 0
    while True:
        status, answer, text = request(port, "POST", "/", body, headers)
        if status != 503:
            assert status == 200, text
            return json.loads(text)["classes"], refusals
        assert answer["Retry-After"] == "1"
        refusals += 1
        time.sleep(0.01)


def scores_of(files, module, images):
    """Return the net's own scores, computed image by image."""
    net = minicaffe.Net(str(files / "deploy.prototxt"), minicaffe.TEST, weights=str(files / "net.caffemodel"))
    net.blobs["data"].reshape(1, 3, 8, 8)
    preprocessing = module.Preprocessing(module.read_block(files / "preprocess.prototxt"), (1, 3, 8, 8))
    return [net.forward(data=preprocessing.batch([preprocessing.decode(each)]))["prob"][0].copy() for each in images]


def check(classes, scores):
    best = np.argsort(-scores, kind="stable")[:5]
    assert [each["class"] for each in classes] == best.tolist()
    assert [each["label"] for each in classes] == [f"class {k}" for k in best]
    np.testing.assert_allclose([each["score"] for each in classes], scores[best], rtol=1e-5)


def test_64_clients_get_the_right_answers(make, serve, module, files, images):
    """The requests in the server are never more than those that compute and those that may wait."""
    service = make(workers=2, waiting=4)
    taken, most = [], []
    classify = service.classify
    service.classify = lambda data: (most.append(6 - service.free), classify(data))[1]
    port = serve(service)

    def client(i):
        for k in range(4):
            j = (i + k) % CLIENTS
            body = form("image", images[j]) if k % 2 else (images[j],)
            taken.append((j, until_taken(port, *body)[0]))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    expected = scores_of(files, module, images)
    assert sorted(j for j, _ in taken) == sorted(4 * list(range(CLIENTS)))
    for j, classes in taken:
        check(classes, expected[j])
    assert len(most) == 4 * CLIENTS and max(most) <= 6 and service.free == 6


def test_a_full_queue_refuses_until_there_is_room(make, serve, module, files, images):
    service = make(workers=1, waiting=1)
    opened, classify = threading.Event(), service.classify
    service.classify = lambda data: (opened.wait(SECONDS), classify(data))[1]
    port = serve(service)
    with ThreadPoolExecutor(3) as pool:
        first = [pool.submit(until_taken, port, images[i]) for i in range(2)]
        while json.loads(request(port, "GET", "/health")[2])["free"]:
            time.sleep(0.01)
        for body in (images[2], bytes(5 << 20)):  # the second one is larger than what sockets buffer
            status, headers, text = request(port, "POST", "/", body)
            assert (status, headers["Retry-After"], text) == (503, "1", "too many requests are waiting")
        third = pool.submit(until_taken, port, images[2])
        opened.set()
        answers = [each.result(SECONDS) for each in [*first, third]]
    for (classes, _), scores in zip(answers, scores_of(files, module, images[:3])):
        check(classes, scores)
    assert json.loads(request(port, "GET", "/health")[2]) == {"free": 2}


def test_what_is_no_image_is_refused_in_one_sentence(make, serve, images):
    port = serve(make())
    for body, expected in [
        ((b"no image",), "cannot decode the image: it is no image of a kind that Pillow reads"),
        ((images[0][:60],), "cannot decode the image: "),
        ((b"",), "cannot decode the image: "),
        (form("picture", images[0]), "the form has no file 'image'"),
        ((b"--y\r\n", {"Content-Type": "multipart/form-data; boundary=x"}), ""),
    ]:
        status, _, text = request(port, "POST", "/", *body)
        assert status == 400 and text.startswith(expected) and len(text.splitlines()) == 1, text
    assert request(port, "GET", "/")[0] == 405
    assert json.loads(request(port, "GET", "/health")[2]) == {"free": 6}


def test_scores_that_are_equal_or_not_finite(make, serve, images, monkeypatch):
    """Equal scores are in the order of the classes; nan is last, and null in JSON."""
    service = make(workers=1)
    net = service.nets.get()
    values = np.array([[0.25, np.nan, 0.5, 0.25, np.inf, 0.5, 0.125]], np.float32)
    monkeypatch.setattr(net, "predict", lambda images: {net.blobs[0]: values})
    service.nets.put(net)
    port = serve(service)
    found = [(each["class"], each["score"]) for each in until_taken(port, images[0])[0]]
    assert found == [(4, None), (2, 0.5), (5, 0.5), (0, 0.25), (3, 0.25)]
    values[:] = np.nan
    assert [each["score"] for each in until_taken(port, images[0])[0]] == 5 * [None]


def test_sizes_are_limited_before_the_body_is_read(make, serve, module):
    port = serve(make())
    sentence = f"send an image of at most {module.MAX_BYTES} bytes, with its Content-Length"
    for header in (
        f"Content-Length: {module.MAX_BYTES + 1}",
        "Transfer-Encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ):
        assert answer_to(port, f"POST / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n") == (413, sentence)


def test_a_body_that_does_not_arrive_gives_its_place_back(make, serve, module, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.01)
    port = serve(make())
    assert answer_to(port, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")[0] == 408
    assert json.loads(request(port, "GET", "/health")[2]) == {"free": 6}


def test_requests_in_flight_are_answered_at_shutdown(make, module, files, images):
    service = make(workers=1, waiting=3)
    opened, started, classify = threading.Event(), threading.Event(), service.classify
    service.classify = lambda data: (started.set(), opened.wait(SECONDS), classify(data))[2]
    running = Running(service)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(until_taken, running.port, image) for image in images[:4]]
        while json.loads(request(running.port, "GET", "/health")[2])["free"]:
            time.sleep(0.01)
        running.server.should_exit = True
        opened.set()
        for answer, scores in zip(answers, scores_of(files, module, images[:4])):
            check(answer.result(SECONDS)[0], scores)
    running.stop()
    with pytest.raises(RuntimeError, match="after shutdown"):
        service.pool.submit(int)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_the_command_of_the_page(files, images, tmp_path):
    """It serves what the environment names, and ends at SIGTERM with status 0."""
    names = {"MODEL": "deploy.prototxt", "WEIGHTS": "net.caffemodel", "LIKE": "preprocess.prototxt"}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **names, "LABELS": "words.txt", "WORKERS": "2"}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(FOLDER), "--port", "0", "--factory", "service:app"]
    log = tmp_path / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, cwd=files, env=env, stdout=file, stderr=file)
    try:
        end = time.monotonic() + SECONDS
        while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        classes, _ = until_taken(int(found[1]), images[0])
        assert classes[0]["label"] == f"class {classes[0]['class']}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) in (0, -signal.SIGTERM), log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MODEL", "", "the variable MODEL is not set"),
        ("WEIGHTS", "nowhere.caffemodel", "nowhere.caffemodel"),
        ("LIKE", "deploy.prototxt", "deploy.prototxt has no preprocess block"),
        ("LABELS", "preprocess.prototxt", "expected 7 names, one for each class, got"),
        ("LABELS", "nowhere.txt", "labels file"),
        ("WORKERS", "two", "'two'"),
        ("WORKERS", "0", "expected at least 1 worker and 0 waiting requests, got 0 and 64"),
        ("WAITING", "-1", "waiting requests, got"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(module, files, monkeypatch, name, value, expected):
    monkeypatch.chdir(files)
    env = {
        "MODEL": "deploy.prototxt",
        "WEIGHTS": "net.caffemodel",
        "LIKE": "preprocess.prototxt",
        "LABELS": "words.txt",
    }
    for key, text in {**env, name: value}.items():
        monkeypatch.setenv(key, text) if text else monkeypatch.delenv(key, raising=False)
    with restored(), pytest.raises(SystemExit) as caught:
        module.app()
    sentence = str(caught.value)
    assert sentence.startswith("the service cannot start: ") and "\n" not in sentence
    assert expected in sentence


# -- the container -----------------------------------------------------------------------------------------------------


def dockerfile():
    """Return the instructions of the Dockerfile: (word, the rest of the line)."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_container_has_the_files_that_its_variables_name():
    words = [word for name, rest in dockerfile() if name == "COPY" for word in rest.split()[:-1]]
    copied = [word for word in words if not word.startswith("--")]
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(rest for name, rest in dockerfile() if name == "ENV")))
    read = set(re.findall(r"env(?:\[|\.get\()\"(\w+)\"", (FOLDER / "service.py").read_text()))
    assert set(variables) - {"MINICAFFE_MAX_PIXELS"} == read - {"WORKERS"}
    assert {variables[name] for name in ("MODEL", "WEIGHTS", "LIKE", "LABELS")} | {"service.py"} < set(copied)


def test_the_container_is_built_from_what_exists():
    """The extra of setup.cfg, the module of the command; it runs as a user without rights."""
    words = [name for name, _ in dockerfile()]
    assert words[0] == "FROM" and words.count("USER") == 1 and words.index("USER") < words.index("CMD")
    run = " ".join(rest for name, rest in dockerfile() if name == "RUN")
    extras = re.search(r"whl\)\[(\w+)\]", run)[1]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert {"starlette", "uvicorn"} < set(re.findall(r"[\w-]+(?=>=)", setup["options.extras_require"][extras]))
    command = json.loads(dict(dockerfile())["CMD"])
    assert command[:3] == ["uvicorn", "--factory", "service:app"]


def test_the_check_of_the_container(make, serve):
    """Its program ends with 0 where the service answers, else with an error."""
    program = json.loads(dict(dockerfile())["HEALTHCHECK"].split("CMD", 1)[1])
    assert program[0] == "python" and ":8000/" in program[2]
    here = [sys.executable, "-c", program[2].replace(":8000/", f":{serve(make())}/")]
    assert subprocess.run(here).returncode == 0
    here[2] = here[2].replace("/health", "/nowhere")
    assert subprocess.run(here, capture_output=True).returncode == 1
