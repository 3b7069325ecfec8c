"""The code in README.md and docs/*.md runs: every Python block, every shell line, in order, page by page.

A block whose first line is `# file: NAME` is written to that file; lines of `sh` blocks that begin with `minicaffe`
are run by its command line.  So that a page takes seconds, solvers are cut short and the data set is small and
synthetic; what would download something is passed over.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe
from minicaffe.cli import main
from minicaffe.core.settings import restored
from minicaffe.data.datasets import synthetic

ROOT = Path(minicaffe.__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [p for p in PAGES if "```python" in p.read_text() or "```sh" in p.read_text()]
NOT_RUN = ("minicaffe data cifar10", "minicaffe data mnist", "minicaffe data synthetic", "pip ", "git ")

# What makes solvers and commands short: (in full, here).
SHORT = (
    ("max_iter: 4000", "max_iter: 20"),
    ("max_iter: 5000", "max_iter: 30"),
    ("snapshot: 4000", "snapshot: 20"),
    ("snapshot: 5000", "snapshot: 30"),
    ("test_iter: 100", "test_iter: 2"),
    ("test_interval: 500", "test_interval: 10"),
    ("display: 100", "display: 10"),
    ("iter_4000", "iter_20"),
    ("iter_5000", "iter_30"),
    ("--iterations 100", "--iterations 2"),
    ("solver.step(100)", "solver.step(10)"),
    # ssd_shapes
    ("data shapes --voc", "data shapes --train 40 --test 10 --voc"),
    ("max_iter: 6000", "max_iter: 2"),
    ("snapshot: 2000", "snapshot: 2"),
    ("test_iter: 10\n", "test_iter: 1\n"),
    ("iter_6000", "iter_2"),
    ("--iterations 10 ", "--iterations 1 "),
)
BLOCK = re.compile(r"(<!-- needs: (\w+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shorten(text):
    for long, short in SHORT:
        text = text.replace(long, short)
    return text


def shorten_solvers(folder):
    for solver in folder.rglob("solver*.prototxt"):
        solver.write_text(shorten(solver.read_text()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the models, a small synthetic data set, and cifar10_quick trained for 20 iterations on it."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "models", folder / "models", ignore=shutil.ignore_patterns("*.h5", "__pycache__"))
    shutil.copytree(ROOT / "docs" / "deploy", folder / "docs" / "deploy")
    shorten_solvers(folder / "models")
    was = os.getcwd()
    os.chdir(folder)
    try:
        synthetic.prepare("data/cifar10", train=400, test=200)
        assert main(["train", "--solver", "models/cifar10_quick/solver.prototxt"]) == 0
    finally:
        os.chdir(was)
    return folder


def run_lines(text):
    """Run a block of shell lines; backslashes join them."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or line.startswith(NOT_RUN):
            continue
        if words[0] == "minicaffe":
            assert main(words[1:]) == 0, line
            if words[1] == "models" and len(words) > 3:
                shorten_solvers(Path(words[3]))
        else:
            assert words[0] == "python", f"the tests do not know how to run: {line}"
            env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
            words = [str(ROOT / word) if word.startswith("tools/") else word for word in words[1:]]
            done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def run_page(text, path, needs):
    names = {"__name__": "__main__"}
    ran = 0
    for block in BLOCK.finditer(text):
        need, language, code = block[2] or "", block[3], shorten(block[4])
        if need != needs and need:
            continue
        line = text[: block.start(4)].count("\n")
        if named := re.match(r"# file: (\S+)\n", code):
            Path(named[1]).write_text(code)
        elif language == "python":
            exec(compile("\n" * line + code, str(path), "exec"), names)
        elif language == "sh":
            run_lines(code)
        elif language not in ("text", "console"):
            raise AssertionError(f"{path}: a block of {language} has no `# file:` line")
        ran += 1
    assert ran, f"{path} has no code"


@pytest.fixture
def page_folder(trained, tmp_path, monkeypatch):
    """A copy of the trained folder to run a page in; what the page imports and registers is forgotten afterwards."""
    folder = tmp_path / "page"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))  # of workers
    modules, types = set(sys.modules), _registry_copy()
    with restored():
        yield folder
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if name == "caffe" or name.startswith("caffe.") or (file and file.startswith(str(folder))):
            del sys.modules[name]
    _restore(types)


def _registry_copy():
    from minicaffe.core import registry

    return {name: dict(variants) for name, variants in registry._registry.items()}


def _restore(types):
    from minicaffe.core import registry

    minicaffe.layer_type_list()  # so that types which only now were loaded stay
    for name in set(registry._registry) - set(types) if types else ():
        if not any(cls.__module__.startswith("minicaffe.") for cls in registry._registry[name].values()):
            del registry._registry[name]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_page_runs(path, page_folder):
    run_page(path.read_text(), path, "")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_script_of_the_tour_learns(page_folder, capsys, seed):
    """Its first net starts near ln 10, the loss of ten equal probabilities, and learns, whatever the seed."""
    code = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "tour.md").read_text(), re.DOTALL | re.MULTILINE)[-1]
    minicaffe.set_random_seed(seed)
    names: dict = {}
    shorter = ("range(4)", "range(6)"), ("solver.step(100)", "solver.step(10)"), ("range(20)", "range(1)")
    for full, short in shorter:
        code = code.replace(full, short)
    exec(code, names)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[:6]]
    assert max(losses) < 3 and losses[-1] < 1.9


@pytest.mark.gpu
def test_layer_page_runs_on_the_gpu(page_folder, cuda_device):
    path = ROOT / "docs" / "write_a_layer.md"
    run_page(path.read_text(), path, "gpu")


def test_deploy_page_runs_the_service(page_folder):
    """The container's files are in the folder that the page makes, apart from minicaffe's wheel."""
    pytest.importorskip("starlette")
    path = ROOT / "docs" / "deploy.md"
    run_page(path.read_text(), path, "serve")
    copied = re.findall(r"^COPY (?:--\S+ )*(.*) \S+$", Path("Dockerfile").read_text(), re.MULTILINE)
    assert copied[0] == "minicaffe-*.whl" and [name for name in copied[1].split() if not Path(name).exists()] == []


def test_links_between_pages():
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for file, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)", path.read_text(encoding="utf-8")):
            there = path.parent / file if file else path
            assert there.exists(), f"{path.name} links to {file}"
            assert not anchor or anchor in anchors(there), f"{path.name} links to {file}#{anchor}"


@functools.cache
def anchors(page):
    """The anchors of a page's headings, as on GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_that_pages_name_are_there():
    folders = "benchmarks|cuda|docs|layers|minicaffe|models|solvers|tests|tools"
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for name in set(re.findall(rf"`((?:{folders})/[\w/.]+)", path.read_text())):
            assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), f"{path.name} names {name}"
