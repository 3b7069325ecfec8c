"""`minicaffe completion`: the script with which a shell completes command lines of minicaffe."""

from __future__ import annotations

import argparse

from minicaffe import __version__
from minicaffe.cli.command import FlagParser, all_commands, command
from minicaffe.cli.completion_scripts import SHELLS
from minicaffe.cli.completion_words import words_of

_EXAMPLES = """
  source <(minicaffe completion bash)       # in ~/.bashrc
  mkdir -p ~/.local/share/bash-completion/completions
  minicaffe completion bash > ~/.local/share/bash-completion/completions/minicaffe
  mkdir -p ~/.zsh/completions ~/.config/fish/completions
  minicaffe completion zsh > ~/.zsh/completions/_minicaffe       # a folder of $fpath
  minicaffe completion fish > ~/.config/fish/completions/minicaffe.fish
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.argument("shell", metavar="SHELL", choices=tuple(SHELLS), help="bash, zsh or fish")


@command("completion", "Begin", "print a script that completes commands in bash, zsh or fish", _flags, _EXAMPLES)
def completion(args: argparse.Namespace) -> None:
    """Complete actions, flags, their values and files with the Tab key.

    The script starts no program.  It is made from the flags of this version: print it again after an update."""
    from minicaffe.cli.entry import MODULES

    print(SHELLS[args.shell]([words_of(each) for each in all_commands(MODULES)], __version__), end="")
