"""The scripts of `minicaffe completion`, run in the shells that are installed; and what they are made from."""

import os
import re
import select
import shutil
import subprocess

import pytest

from minicaffe.cli import completion_words, main
from minicaffe.cli.command import all_commands
from minicaffe.cli.completion_scripts import SHELLS
from minicaffe.cli.completion_words import Value, _value, brief, words_of
from minicaffe.cli.entry import MODULES

COMMANDS = {each.name: words_of(each) for each in all_commands(MODULES)}


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The folder with a script of each shell."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell, make in SHELLS.items():
        (folder / shell).write_text(make([*COMMANDS.values()], "1.0"), encoding="utf-8")
    return folder


# -- what is completed -------------------------------------------------------------------------------------------------


def value(command, flag):
    return next(each.value for each in COMMANDS[command].flags if each.name == flag)


@pytest.mark.parametrize(
    ("command", "flag", "expected"),
    [
        ("train", "--solver", Value(files=True)),
        ("train", "--stop_on_nan", None),
        ("train", "--keep", Value()),
        ("train", "--engine", Value(("DEFAULT", "CAFFE", "ONEDNN", "CUDNN", "TENSOR"))),
        ("draw", "--phase", Value(("TRAIN", "TEST", "ALL"))),
        ("draw", "--shape", Value()),
        ("whiten", "--write_db", Value(files=True)),
        ("show", "--class", Value()),
        ("parse_log", "--delimiter", Value()),
        ("convert_mnist_data", "--backend", Value(("lmdb", "leveldb"))),
        ("convert_mnist_siamese_data", "--backend", Value(("lmdb", "leveldb"))),
        ("test", "--help", None),
    ],
)
def test_values_of_flags(command, flag, expected):
    assert value(command, flag) == expected


#: metavars of values that are files or folders
FILES = set(
    "DB DB1[,DB2,...] DB2 DEPLOY DIR FILE FILES FOLDER FOLDER/ IMAGE IMAGES IN INPUTS INPUT_FOLDER LABELS LIST LOG "
    "MEAN MODEL NET OUT OUTPUT_DIR OUTPUT_FOLDER PATH PNG PROTOTXT ROOT_FOLDER/ WEIGHTS".split()
)


def test_every_metavar_is_of_one_kind():
    """A value is a file by its metavar, and by nothing else; every other metavar is in the list of those."""
    files, others = set(), set()
    for each in all_commands(MODULES):
        parser = each.parser()
        for action in (action for action in parser._actions if action.nargs != 0):
            value = _value(parser, action)
            names = {action.metavar} if isinstance(action.metavar, str) else set(action.metavar or [None])
            files |= names if value.files else set()
            others |= set() if value.files or value.words or action.type else names
    assert files - {"NEW_NET", "NEW_WEIGHTS"} == FILES and others <= completion_words._NO_FILES
    assert not files & completion_words._NO_FILES


def test_arguments():
    assert COMMANDS["train"].argument is None
    assert COMMANDS["draw"].argument == Value(files=True)
    assert {"cifar10_quick", "lenet"} <= set(COMMANDS["models"].argument.words) and not COMMANDS[
        "models"
    ].argument.files
    assert COMMANDS["completion"].argument == Value(("bash", "zsh", "fish"))


def test_examples_make_the_folders_of_their_files():
    examples = next(each for each in all_commands(MODULES) if each.name == "completion").examples
    made = {folder for line in re.findall(r"mkdir -p (.*)", examples) for folder in line.split()}
    assert {os.path.dirname(path) for path in re.findall(r"> (\S+)", examples)} == made and len(made) == 3
    assert "source <(minicaffe completion bash)" in examples


def test_fields_of_the_solver_are_completed_up_to_their_values():
    fields = value("train", "--set")
    assert fields.open and {"base_lr=", "stepvalue=", "net_param="} <= set(fields.words)


@pytest.mark.parametrize("command", COMMANDS)
def test_all_flags_of_all_commands_are_there(command):
    parser = next(each for each in all_commands(MODULES) if each.name == command).parser()
    for flag in COMMANDS[command].flags:
        assert flag.name in parser._option_string_actions and f"--{flag.key}" in {
            name.replace("_", "-") for name in parser._option_string_actions
        }
        assert not set(flag.text) & set("\n\x1b") and len(flag.text) <= 70


def test_brief():
    assert brief("how many batches (default 50)") == "how many batches"
    assert brief("resume from this file; auto: from the newest") == "resume from this file"
    assert len(brief("word " * 50)) <= 70 and brief("word " * 50).endswith("word...")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(capsys, shell):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert f"{shell} completion of minicaffe" in printed and "{" + "actions}" not in printed


def test_an_unknown_shell(capsys):
    assert main(["completion", "tcsh"]) == 1
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err


# -- bash --------------------------------------------------------------------------------------------------------------

_REPLIES = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_minicaffe
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash_replies(scripts, *words):
    """The words that bash offers in place of the last one, split at "=" as bash splits them."""
    command = ["bash", "--norc", "-c", _REPLIES, "bash", str(scripts / "bash"), "minicaffe", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@needs("bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["plo"], ["plot", "plot_training_log"]),
        (["--v"], ["--version"]),
        (["train", "--so"], ["--solver"]),
        (["train", "-so"], ["-solver"]),
        (["train", "-gpu", "0", "--wo"], ["--workers"]),
        (["train", "--stop_"], ["--stop_on_nan"]),
        (["train", "--stop-"], ["--stop-on-nan"]),
        (["train", "--solver", ""], []),
        (["train", "--engine", "C"], ["CAFFE", "CUDNN"]),
        (["train", "-engine", "O"], ["ONEDNN"]),
        (["train", "--engine", "=", "O"], ["ONEDNN"]),
        (["train", "--sigint_effect", "="], ["stop", "snapshot", "none"]),
        (["train", "--sigint-effect", "s"], ["stop", "snapshot"]),
        (["train", "--set", "base"], ["base_lr="]),
        (["train", "--keep", ""], []),
        (["--solver", "x", "train", "--snaps"], ["--snapshot"]),
        (["draw", "net.prototxt", "--phase", "T"], ["TRAIN", "TEST"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "whi"], ["whiten"]),
        (["nonsense", ""], [*COMMANDS, "help", "--help", "--version"]),
    ],
)
def test_bash(scripts, words, expected):
    assert bash_replies(scripts, *words) == expected


@needs("bash")
@pytest.mark.parametrize("command", COMMANDS)
def test_bash_offers_all_flags(scripts, command):
    assert bash_replies(scripts, command, "--") == [flag.name for flag in COMMANDS[command].flags]


# -- typed into a shell ------------------------------------------------------------------------------------------------

#: how a shell is started, and what makes `minicaffe` print its arguments; the quotes keep the echo from matching
_TYPED = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "minicaffe() { printf 'GO''T<%s>\\n' \"$*\"; }"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -D; function minicaffe() { print -r -- GO''T\"<$*>\"; }",
    ),
}


class Typist:
    """An interactive shell in a pseudo-terminal, in which `minicaffe` prints its arguments."""

    def __init__(self, shell, script, folder):
        pty = pytest.importorskip("pty")
        words, self._setup = _TYPED[shell]
        self._master, slave = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "TERM": "vt100", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=environment, start_new_session=True
        )
        os.close(slave)
        self._text = ""
        self._send(f"{self._setup}; source '{script}'; minicaffe ready\n")
        assert self._got() == "ready"

    def enter(self, text):
        """Type a line, and return the arguments that `minicaffe` gets."""
        self._send(f"minicaffe {text}\n")
        return self._got()

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _send(self, text):
        os.write(self._master, text.encode())

    def _got(self):
        while (match := re.search(r"GOT<(.*?)>", self._text)) is None:
            assert select.select([self._master], [], [], 300)[0], self._text
            self._text += os.read(self._master, 4096).decode(errors="replace")
        self._text = self._text[match.end() :]
        return match[1]


@pytest.fixture(params=["bash", "zsh"])
def typist(request, scripts, tmp_path):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "solver one.prototxt").write_text("")
    (tmp_path / "net.prototxt").write_text("")
    typist = Typist(request.param, scripts / request.param, tmp_path)
    yield typist
    typist.close()


def test_typing(typist):
    assert typist.enter("tra\t --so\tnet\t") == "train --solver net.prototxt"
    assert typist.enter("train --solver=sol\t") == "train --solver=solver one.prototxt"
    assert typist.enter("train -sol\tne\t -gp\tn\t") == "train -solver net.prototxt -gpu none"
    assert typist.enter("train --engine=ON\t --set base\t0.5") == "train --engine=ONEDNN --set base_lr=0.5"
    assert typist.enter("draw ne\t --pha\tTR\t") == "draw net.prototxt --phase TRAIN"
    assert typist.enter("completion fi\t") == "completion fish"
    assert typist.enter("help quick\t") == "help quickstart"
    assert typist.enter("train --keep n\t") == "train --keep n"
    assert typist.enter("train n\t").rstrip() == "train n"


# -- fish --------------------------------------------------------------------------------------------------------------


@needs("fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tra", ["train"]),
        ("train --sol", ["--solver"]),
        ("train -sol", ["-solver"]),
        ("train -gp", ["-gpu"]),
        ("train --stop-", ["--stop-on-nan"]),
        ("train --stop_", ["--stop_on_nan"]),
        ("train --engine C", ["CAFFE", "CUDNN"]),
        ("train -engine O", ["ONEDNN"]),
        ("train --engine=O", ["--engine=ONEDNN"]),
        ("train --set base", ["base_lr="]),
        ("train --solver ne", ["net.prototxt"]),
        ("train --keep ne", []),
        ("train ne", []),
        ("draw ne", ["net.prototxt"]),
        ("completion ", ["bash", "fish", "zsh"]),
        ("help whi", ["whiten"]),
    ],
)
def test_fish(scripts, tmp_path, line, expected):
    (tmp_path / "net.prototxt").write_text("")
    words = ["fish", "--no-config", "-c", f"source '{scripts / 'fish'}'; complete -C 'minicaffe {line}'"]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    run = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    found = [each.split("\t")[0] for each in run.stdout.splitlines()]
    assert sorted(found) == sorted(expected) and not run.stderr
