"""The cache of compiled kernels: what is loaded from it, and what is compiled again and replaced."""

import os
import stat
import sys

import numpy as np
import pytest

from minicaffe.cuda import cache, kernels

POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes of POSIX")
CODE = bytes(range(256)) * 4


@pytest.fixture
def path(tmp_path):
    """A file of the cache, in a folder that does not exist yet."""
    return tmp_path / "kernels" / "ops-0123.cubin"


class Compiler:
    """Count the calls."""

    version = "1"
    calls = 0

    def compile(self, text, name, arch, definitions):
        self.calls += 1
        return CODE


@pytest.fixture
def compile_ops(tmp_path, monkeypatch):
    """Function that returns the code of ops.cu; `calls()` is the number of compilations, `file()` the cached file."""
    compiler = Compiler()
    monkeypatch.setattr(kernels, "compiler", lambda: compiler)
    monkeypatch.setenv("MINICAFFE_CACHE", str(tmp_path))

    def make():
        return kernels.compiled("ops", np.dtype(np.float32), "sm_90")

    make.calls = lambda: compiler.calls
    make.file = lambda: next((tmp_path / "kernels").iterdir())
    return make


def test_what_is_stored_is_loaded(path):
    assert cache.load(path) is None
    cache.store(path, CODE)
    assert cache.load(path) == CODE
    cache.store(path, CODE[:7])
    assert cache.load(path) == CODE[:7]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@POSIX
def test_only_this_user_has_access(path):
    cache.store(path, CODE)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(CODE)],
        lambda content: content + b"\0",
        lambda content: content[1:],
        lambda content: b"\1" + content[1:],
        lambda content: content[:-40] + b"\1" + content[-39:],
        lambda content: CODE[:300],
    ],
    ids=["empty", "cut", "no trailer", "longer", "shifted", "code", "length", "older format"],
)
def test_a_damaged_file_is_compiled_again_and_replaced(compile_ops, damage):
    compile_ops()
    whole = compile_ops.file().read_bytes()
    compile_ops.file().write_bytes(damage(whole))
    assert compile_ops() == CODE
    assert compile_ops.calls() == 2
    assert compile_ops.file().read_bytes() == whole
    assert compile_ops() == CODE and compile_ops.calls() == 2


def test_a_file_under_the_name_of_another_is_not_loaded(path):
    cache.store(path, CODE)
    other = path.with_name("ops-4567.cubin")
    path.rename(other)
    assert cache.load(other) is None


@POSIX
@pytest.mark.parametrize("mode", [0o660, 0o606])
def test_a_file_that_others_can_write_is_replaced(compile_ops, mode):
    compile_ops()
    compile_ops.file().chmod(mode)
    assert compile_ops() == CODE and compile_ops.calls() == 2
    assert stat.S_IMODE(compile_ops.file().stat().st_mode) == 0o600


@POSIX
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702])
def test_a_folder_that_others_can_write_is_not_used_until_it_is_closed(compile_ops, mode):
    compile_ops()
    compile_ops.file().parent.chmod(mode)
    assert compile_ops() == CODE and compile_ops.calls() == 2
    assert stat.S_IMODE(compile_ops.file().parent.stat().st_mode) == mode & ~0o022
    assert compile_ops() == CODE and compile_ops.calls() == 2


@POSIX
def test_files_of_another_user_are_not_loaded(path, monkeypatch):
    cache.store(path, CODE)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert cache.load(path) is None


@POSIX
def test_nothing_is_stored_in_the_folder_of_another_user(compile_ops, monkeypatch, capsys):
    compile_ops()
    owner = compile_ops.file().stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    kernels._warn_once.cache_clear()
    assert compile_ops() == CODE and compile_ops() == CODE
    assert compile_ops.calls() == 3
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "the folder belongs to another user" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="FIFOs of POSIX")
def test_a_fifo_is_not_read(path):
    path.parent.mkdir(mode=0o700)
    os.mkfifo(path)
    assert cache.load(path) is None
