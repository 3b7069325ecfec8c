"""EMU_RECORD writes down what is submitted to the emulated device; with EMU_DRY nothing is computed."""

import json

import numpy as np
import pytest

from helpers.emulator import floats, run
from minicaffe.cuda import context, graph, memory
from minicaffe.cuda.memory import DeviceBuffer

pytestmark = pytest.mark.gpu


@pytest.fixture
def record(emulated, monkeypatch, tmp_path):
    """A function that returns what has been recorded since its last call."""
    path, read = tmp_path / "record", [0]
    monkeypatch.setenv("EMU_RECORD", str(path))

    def since():
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        new, read[0] = lines[read[0] :], len(lines)
        return new

    return since


ADD = "__global__ void k(float *x, int n, double a, const bool b) { if (threadIdx.x < n) x[threadIdx.x] += a; }"


def test_launches_copies_and_fills(build, record):
    k, x = build(ADD, "Pid?"), DeviceBuffer(40)
    x.from_host(np.zeros(10, np.float32))
    run(k, (3, 2), (32, 2, 1), x, 7, 0.5, True, shared=64)
    x.zero()
    launch = {
        "what": "launch",
        "module": "k",
        "kernel": "k",
        "options": "",
        "grid": [3, 2, 1],
        "block": [32, 2, 1],
        "shared": 64,
        "arguments": [hex(x.ptr), 7, 0.5, 1],
        "graph": False,
    }
    assert record() == [
        {"what": "copy", "bytes": 40, "graph": False},
        launch,
        {"what": "fill", "bytes": 40, "graph": False},
    ]


def test_a_replayed_graph_shows_its_nodes(build, record):
    k, x = build(ADD, "Pid?"), DeviceBuffer(40)
    step = graph.CapturedStep(lambda: (memory.fill_bytes(x.ptr, 0, 40), run(k, (1, 1), (32, 1, 1), x, 7, 1, False)))
    step()
    assert [(line["what"], line["graph"]) for line in record()] == [("fill", False), ("launch", False)]
    step()
    assert [(line["what"], line["graph"]) for line in record()] == [
        ("graph", False),
        ("fill", True),
        ("launch", True),
    ]


def test_nothing_is_computed_in_a_dry_run(build, record, monkeypatch):
    k, x = build(ADD, "Pid?"), DeviceBuffer(40)
    x.from_host(np.arange(10, dtype=np.float32))
    monkeypatch.setenv("EMU_DRY", "1")
    record()
    run(k, (1, 1), (32, 1, 1), x, 10, 1, False)
    x.zero()
    assert [line["what"] for line in record()] == ["launch", "fill"]
    large = DeviceBuffer(64 << 30)  # as on an H100; no memory of this machine is used
    large.zero()
    monkeypatch.delenv("EMU_DRY")
    assert (floats(x, 10) == np.arange(10)).all()


def test_the_number_of_multiprocessors(emulated, monkeypatch):
    def count():
        return emulated.driver.Device(0).multiprocessor_count

    monkeypatch.delenv("MINICAFFE_EMULATED_SMS", raising=False)
    assert count() == 2
    monkeypatch.setenv("MINICAFFE_EMULATED_SMS", "132")
    assert count() == 132
    assert emulated.driver.Device(0).max_registers_per_multiprocessor == 65536
    context.synchronize()
