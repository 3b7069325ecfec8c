"""Names that scripts of Caffe's time use, and that Python and its libraries have removed since.

`python -m minicaffe.run_as_caffe --old-names script.py` installs them; nothing else does.  A name that its library
still has keeps its present meaning:

- numpy: `np.float`, `np.int`, `np.bool`, `np.object`, `np.NaN` and others, `np.fromstring` of bytes, `np.loadtxt` with
  `delimiter="\n"` (`arrays`);
- `scipy.misc`: `imread`, `imresize`, `imsave`, `toimage`, `fromimage`, `bytescale` (`images`), also without SciPy;
- scikit-image: the argument `as_grey` of `skimage.io.imread` and `imread_collection`;
- pandas: `sort`, `order`, `to_hdf(path, key)`, `series[:, None]`; scikit-learn: `loss="log"` and `n_iter` of
  `SGDClassifier` (`frames`);
- Python 2: `xrange`, `unicode`, `basestring`, `long`, `raw_input`, `reduce`, `itertools.izip`, the modules `cPickle`,
  `StringIO` and `cStringIO`, str written to a `tempfile.NamedTemporaryFile()`, and `iteritems()`, `iterkeys()`,
  `itervalues()` and `has_key()` of `net.blobs` and `net.params` (`python2`).  Statements such as `print "x"`, and
  `iteritems()` of other dicts, must be ported.
"""

from __future__ import annotations

import builtins
import re
import sys
from typing import Any

import numpy as np

from minicaffe.old_names import arrays, frames, images, python2
from minicaffe.old_names.importing import install_changes

__all__ = ["install", "is_missing_in"]

_ATTRIBUTE = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)'")
_MODULES = ("scipy.misc", "cPickle", "StringIO", "cStringIO")


def install() -> None:
    """Add the old names to this process, for the rest of its life; calls after the first have no effect.

    Those of numpy and Python are added at once, those of other libraries when they are imported.
    """
    arrays.add_names()
    python2.add_names()
    install_changes(
        changes={
            "scipy.misc": images.add_to_scipy_misc,
            "skimage.io._io": images.accept_as_grey,
            "pandas": frames.add_to_pandas,
            "sklearn.linear_model": frames.accept_old_loss,
            "cPickle": python2.fill_pickle,
            "StringIO": python2.fill_string_io,
            "cStringIO": python2.fill_string_io,
        },
        stand_ins=("scipy", *_MODULES),
    )


def is_missing_in(error: BaseException) -> bool:
    """Whether an error is that of a name which `install` brings back: of a module, or of what is in one."""
    name, owner = getattr(error, "name", None), getattr(error, "obj", None)
    text = re.match(
        r"cannot import name '(\w+)' from '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)'", str(error)
    )
    if isinstance(error, NameError):
        owner = builtins
    elif isinstance(error, ImportError) and name in _MODULES:
        return True
    elif text:  # the attributes are those of some Pythons alone
        name, owner = text[1] or text[4], sys.modules.get(text[2] or text[3])
    tables: tuple[tuple[Any, dict[str, Any]], ...] = ((np, arrays.NAMES), *python2.NAMES)
    return any(name in names and (owner is each or type(owner) is each) for each, names in tables) or (
        getattr(owner, "__name__", None) == "scipy.misc"
    )
