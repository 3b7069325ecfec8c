"""The files of the nets as texts, for another folder, and what they state about themselves."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from minicaffe import models
from minicaffe.errors import UsageError, nearest
from minicaffe.files import read_bytes
from minicaffe.proto import caffe_pb2

_ZOO_README = """\
# {name}

{about}

**Source.** {source} The prototxts are written by `minicaffe.models.zoo.{name}`, whose arguments change their sizes.

{files}

    minicaffe summarize {folder}/deploy.prototxt
    minicaffe draw {folder}/deploy.prototxt
"""

_COPIED = "This is a copy: the logs and pictures that it names are in the original folder, in minicaffe's repository.\n"


def zoo_names() -> list[str]:
    """Return the names of the nets of the zoo, sorted."""
    from minicaffe.models import zoo

    return sorted(zoo.__all__)


def texts(name: str, folder: str, data: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the texts of a net's prototxts and readme by file name, as they are for a copy in `folder`.

    The nets of this package have a solver; those of the zoo do not, and read blobs that a script fills.
    folder: where the files will be; in the texts it takes the place of the folder models/NAME.
    data: folders that take the place of others, such as {"data/cifar10": "data/standin"}; None (default): none.
    UsageError, with the known names, when there is no such net.
    """
    if name in models.names():
        source = models.folder(name)
        files = sorted(file for file in os.listdir(source) if file.endswith((".prototxt", ".md")))
        moved = {f"models/{name}": folder, **(data or {})}
        return {file: _moved(read_bytes(os.path.join(source, file)).decode(), file, moved) for file in files}
    known = [*models.names(), *zoo_names()]
    if name not in known:
        raise UsageError(f"there is no net '{name}'{nearest(name, known)}; `minicaffe models` lists them")
    return _of_zoo(name, folder)


def _moved(text: str, file: str, folders: Mapping[str, str]) -> str:
    """Replace the folders of the paths in a prototxt, which are strings, or anywhere in a readme."""
    if file.endswith(".prototxt"):
        for old, new in folders.items():
            text = text.replace(f'"{old}/', f'"{in_prototxt(new)}/')
        return text
    moved = text
    for old, new in folders.items():
        moved = re.sub(rf"\b{re.escape(old)}(?![\w-])", new.replace("\\", r"\\"), moved)
    return moved if moved == text else f"{moved}\n{_COPIED}"


def in_prototxt(path: str) -> str:
    """Return a path as it is written between the quotes of a prototxt's string."""
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- what a net states about itself ------------------------------------------------------------------------------------


def summary(name: str) -> str:
    """Return the first sentence of a net's readme, or of its function's docstring, without numbers of parameters."""
    if name in models.names():
        text = _readme(name).split("\n\n")[1]
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    else:
        text = " ".join((inspect.getdoc(_function(name)) or "").split("\n\n")[0].split())
        text = re.sub(r": [\d,]+ parameters.*", "", text)
    return re.split(r"\.(?: |$)", text)[0]


def accuracy(name: str) -> str:
    """Return the test accuracy that a net's readme sets in bold among its results; "" for none."""
    if name not in models.names():
        return ""
    found = re.search(r"\*\*(0\.\d+)\*\*", _readme(name).partition("## Results")[2].partition("\n## ")[0])
    return found[1] if found else ""


def deploy_net(name: str) -> Any:
    """Return the NetParameter of a net for use, one sample at a time where its size is free."""
    if name in models.names():
        from minicaffe.proto import read_net

        return read_net(os.path.join(models.folder(name), "deploy.prototxt"))
    return _built(name, training=False, batch=1)


def _readme(name: str) -> str:
    return read_bytes(os.path.join(models.folder(name), "readme.md")).decode()


# -- the zoo -----------------------------------------------------------------------------------------------------------


def _function(name: str) -> Callable[..., Any]:
    from minicaffe.models import zoo

    return getattr(zoo, name)


def _built(name: str, **arguments: Any) -> caffe_pb2.NetParameter:
    """Return the net of a function of the zoo, called with those arguments that it has."""
    function = _function(name)
    known = inspect.signature(function).parameters
    return function(**{key: value for key, value in arguments.items() if key in known})


def _of_zoo(name: str, folder: str) -> dict[str, str]:
    function = _function(name)
    files = {"deploy.prototxt": str(deploy_net(name))}
    words = ["`deploy.prototxt` is the net for use."]
    if "training" in inspect.signature(function).parameters:
        files["train.prototxt"] = str(_built(name, training=True))
        words.append("`train.prototxt` is the net with its loss; to train it, put Data layers in place of its Input "
                     "layers, and write a solver.")  # fmt: skip
    about, source = (inspect.getdoc(each) or "" for each in (function, inspect.getmodule(function)))
    files["readme.md"] = _ZOO_README.format(
        name=name, about=about, source=source.strip(), folder=folder, files=" ".join(words)
    )
    return files
