"""Names and arguments that pandas since 0.20 and scikit-learn since 0.21 have removed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any


def add_to_pandas(module: ModuleType) -> None:
    """Add `sort` of DataFrame and Series (there in place), `to_hdf(path, key)`, and Series' `order` and `[:, None]`."""
    for owner, names in (
        (module.DataFrame, {"sort": _sort_frame}),
        (module.Series, {"sort": _sort_series, "order": lambda self, **options: self.sort_values(**options)}),
    ):
        for name, function in names.items():
            if not hasattr(owner, name):
                setattr(owner, name, function)
    if not hasattr(module.DataFrame.to_hdf, "__wrapped__"):
        module.DataFrame.to_hdf = _with_positional_key(module.DataFrame.to_hdf)
        module.Series.__getitem__ = _with_new_axes(module.Series.__getitem__)


def _with_positional_key(to_hdf: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(to_hdf)
    def with_positional_key(self: Any, path: Any, key: str, **options: Any) -> None:
        to_hdf(self, path, key=key, **options)

    return with_positional_key


def _with_new_axes(getitem: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(getitem)
    def with_new_axes(self: Any, key: Any) -> Any:
        if isinstance(key, tuple) and any(part is None for part in key):
            return self.to_numpy()[key]
        return getitem(self, key)

    return with_new_axes


def _sort_frame(self: Any, columns: Any = None, **options: Any) -> Any:
    """Return the frame sorted by the values of columns, or, by default, by its index."""
    return self.sort_index(**options) if columns is None else self.sort_values(columns, **options)


def _sort_series(self: Any, **options: Any) -> None:
    """Sort the values in place."""
    self.sort_values(inplace=True, **options)


def accept_old_loss(module: ModuleType) -> None:
    """Let `SGDClassifier` of scikit-learn take `loss="log"`, now "log_loss", and `n_iter`, now `max_iter`."""
    cls = module.SGDClassifier
    if not hasattr(cls.__init__, "__wrapped__"):
        cls.__init__ = _with_old_arguments(cls.__init__)


def _with_old_arguments(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def with_old_arguments(self: Any, *args: Any, **options: Any) -> None:
        if "n_iter" in options:
            options |= {"max_iter": options.pop("n_iter"), "tol": None}
        if options.get("loss") == "log":
            options["loss"] = "log_loss"
        init(self, *args, **options)

    return with_old_arguments
