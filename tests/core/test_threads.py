"""The cores that a process may use, and the one number of threads that compute."""

import os
import subprocess
import sys

import numpy as np
import pytest

import minicaffe
from minicaffe import onednn, threads
from minicaffe.core.settings import restored
from minicaffe.cores import affinity, cores, quotas
from minicaffe.errors import UsageError
from minicaffe.threads import THREADS, blas_threads

V2 = "31 23 0:28 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "32 31 0:29 {root} {mount} rw,relatime - cgroup cgroup rw,{controllers}\n"


@pytest.fixture
def process(tmp_path):
    """Make a folder like /proc/self, and cgroups with the files given by path; {mount} is where they are mounted."""

    def make(groups, mounts, files):
        mount = tmp_path / "cgroup"
        for name, text in files.items():
            file = mount / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        own = tmp_path / "self"
        own.mkdir()
        (own / "cgroup").write_text(groups)
        (own / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda rw\n" + mounts.replace("{mount}", str(mount)))
        return str(own)

    return make


def v2(root="/"):
    return V2.format(root=root, mount="{mount}")


def v1(controllers="cpu,cpuacct", root="/"):
    return V1.format(root=root, mount="{mount}", controllers=controllers)


@pytest.mark.parametrize(
    ("path", "root", "files", "expected"),
    [
        ("/", "/", {"cpu.max": "250000 100000"}, [2.5]),
        ("/", "/", {"cpu.max": "max 100000"}, []),
        ("/", "/", {}, []),
        ("/a/b", "/", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, [1.5]),
        ("/a/b", "/", {"a/b/cpu.max": "300000 100000", "cpu.max": "10000 20000"}, [3.0, 0.5]),
        ("/a/b", "/a", {"b/cpu.max": "200000 100000"}, [2.0]),
        ("/a", "/a", {"cpu.max": "200000 100000"}, [2.0]),
        ("/other", "/a", {"cpu.max": "200000 100000"}, []),
        ("/../b", "/", {"cpu.max": "200000 100000"}, []),
    ],
)
def test_quotas_of_version_2(process, path, root, files, expected):
    assert quotas(process(f"0::{path}\n", v2(root), files)) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("150000", "100000", [1.5]), ("-1", "100000", []), ("50000", "50000", [1.0])],
)
def test_quotas_of_version_1(process, quota, period, expected):
    files = {"docker/1f/cpu.cfs_quota_us": quota, "docker/1f/cpu.cfs_period_us": period}
    groups = "5:memory:/elsewhere\n4:cpu,cpuacct:/docker/1f\n0::/docker/1f\n"
    assert quotas(process(groups, v1("memory") + v1(), files)) == expected


def test_both_versions_and_all_parents_limit(process):
    files = {"a/cpu.max": "300000 100000", "cpu.cfs_quota_us": "400000", "cpu.cfs_period_us": "100000"}
    assert sorted(quotas(process("1:cpu:/a\n0::/a\n", v2() + v1("cpu"), files))) == [3.0, 4.0]


@pytest.mark.parametrize(
    ("quota", "available", "expected"),
    [(2.5, 8, 3), (0.2, 8, 1), (1.0, 8, 1), (16, 8, 8), (None, 8, 8), (1.5, 1, 1)],
)
def test_cores_are_those_of_affinity_and_quota_rounded_up(process, monkeypatch, quota, available, expected):
    monkeypatch.setattr("minicaffe.cores.affinity", lambda: available)
    limit = "max" if quota is None else str(int(quota * 100000))
    assert cores(process("0::/\n", v2(), {"cpu.max": f"{limit} 100000"})) == expected


def test_without_proc_the_affinity_counts(tmp_path):
    assert cores(str(tmp_path / "none")) == affinity()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes have no affinity here")
def test_affinity():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from minicaffe.cores import cores; from minicaffe.threads import THREADS; print(cores(), THREADS.count())"
    )
    assert run(code) == "1 1"


def run(code, **environment):
    """Run code in a fresh process whose environment sets no threads but those given; return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- precedence --------------------------------------------------------------------------------------------------------


@pytest.fixture
def count(monkeypatch):
    """The number of threads in a process with 6 cores, as a function of OMP_NUM_THREADS and `wanted`."""
    monkeypatch.setattr(threads, "cores", lambda: 6)

    def found(variable, wanted=None):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if variable is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", variable)
        fresh = threads.Threads()
        fresh.wanted = wanted
        return fresh.count(), fresh.spare()

    return found


@pytest.mark.parametrize(
    ("variable", "expected"), [(None, 6), ("4", 4), (" 4 ", 4), ("4,2", 4), ("9", 9), ("0", 6), ("four", 6), ("", 6)]
)
def test_the_environment_comes_before_the_cores(count, variable, expected):
    assert count(variable) == (expected, max(1, 6 - expected))


def test_set_threads_comes_before_the_environment(count):
    assert count("4", wanted=2) == (2, 4)


def test_set_threads_is_for_all_engines():
    with restored():
        minicaffe.set_threads(2)
        assert THREADS.count() == 2 and set(blas_threads()) <= {2}
        assert not onednn.available() or onednn.threads() == 2
        minicaffe.set_threads(1)
        assert THREADS.count() == 1 and set(blas_threads()) <= {1}
        assert not onednn.available() or onednn.threads() == 1
        minicaffe.set_threads(None)
        assert THREADS.wanted is None and set(blas_threads()) <= {THREADS.default()}


def test_numpys_blas_is_found():
    """numpy's wheels bring OpenBLAS; other builds may have a BLAS without a setting."""
    if "openblas" in str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]):
        assert blas_threads()


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_number_of_threads_is_positive(wrong):
    before = THREADS.wanted
    with pytest.raises(UsageError, match=f"set_threads: expected a number above 0, got {wrong}"):
        minicaffe.set_threads(wrong)
    assert THREADS.wanted == before


# -- BLAS by default ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "usable", "variables", "expected"),
    [
        (8, 2, {}, 2),
        (8, 8, {}, None),
        (8, 2, {"OPENBLAS_NUM_THREADS": "4"}, None),
        (8, 2, {"OMP_NUM_THREADS": "8"}, None),
    ],
)
def test_a_quota_limits_blas_where_no_variable_does(monkeypatch, available, usable, variables, expected):
    limits = []
    monkeypatch.setattr(threads, "affinity", lambda: available)
    monkeypatch.setattr(threads, "cores", lambda: usable)
    monkeypatch.setattr(threads, "limit_blas", limits.append)
    for name in threads._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    threads.limit_blas_to_quota()
    assert limits == ([] if expected is None else [expected])


def test_importing_minicaffe_changes_no_threads_without_a_quota():
    code = "import minicaffe, sys; print('threadpoolctl' in sys.modules, minicaffe.threads.THREADS.wanted)"
    if not quotas():
        assert run(code) == "False None"
