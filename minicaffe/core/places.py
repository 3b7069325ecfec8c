"""Where copies of a Memory's numbers live, and what takes part in their use: engines, observers, plans of buffers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from minicaffe.errors import DeviceError

if TYPE_CHECKING:
    from minicaffe.core.memory import Memory


class Copy(Protocol):
    """The numbers of a Memory at one place."""

    def to_host(self, flat: np.ndarray) -> Any:
        """Write the values, in (N, C, H, W) order, into a flat host array."""


class ReadableCopy(Copy, Protocol):
    """A copy that `Memory.read` brings up to date."""

    def from_host(self, flat: np.ndarray) -> Any:
        """Take the values of a flat host array."""

    def zero(self) -> Any:
        """Set all values to zero."""


class Place:
    """Where copies of numbers live; an engine with memory of its own makes one, for the life of the process.

    name: unique.  bit: the place's bit in `Memory.fresh`.
    """

    _by_name: dict[str, Place] = {}  # written to when a module of an engine is imported

    def __init__(self, name: str) -> None:
        self.name, self.bit = name, 1 << len(self._by_name)
        if self._by_name.setdefault(name, self) is not self:
            raise ValueError(f"there is a place '{name}' already")

    @classmethod
    def named(cls, name: str) -> Place:
        """The place of that name; DeviceError where no engine has made one."""
        try:
            return cls._by_name[name]
        except KeyError:
            raise DeviceError(f"no engine has memory called '{name}': known are {', '.join(cls._by_name)}") from None

    def allocate(self, count: int, dtype: np.dtype) -> ReadableCopy:
        """A copy for so many numbers, not initialised."""
        raise NotImplementedError

    def convert(self, source: Any, place: Place, target: Any) -> bool:
        """Write the values of a copy that lives here to one at another place; False if only the host can."""
        return False

    def keep(self, source: Any, target: Any) -> Any:
        """Give blob `target` the values of blob `source`, which has the same shape and its newest values here.

        Returns an object to keep for as long as `target` needs the values, or None.
        """
        target.data = source.read_data()

    def __repr__(self) -> str:
        return f"<place '{self.name}'>"


HOST = Place("host")


class Observer(Protocol):
    """Notified of each use of memory in a thread, while an engine records a step."""

    def used_on_host(self, memory: Memory) -> None:
        """The host's copy is used."""

    def reads(self, memory: Memory, place: Place) -> bool:
        """A copy is about to be read; whether it counts as up to date although a script holds a view."""

    def wrote(self, memory: Memory, place: Place) -> None:
        """A copy is written to."""

    def before_replay(self, action: Callable[[], None]) -> None:
        """Call `action` before each replay of the step, if it is recorded."""

    def ran(self, call: Callable[[], None]) -> None:
        """An engine has run a call on the host, which can be repeated."""

    def kept(self) -> None:
        """Values are kept beyond the step, and the next one will write to other memory."""


class _Observed(threading.local):
    observer: Any = None  # an Observer, of this thread's uses of memory


observed = _Observed()


class BufferPlan(Protocol):
    """Lets memories share buffers, see `minicaffe.core.sharing`."""

    def room(self, memory: Memory, nbytes: int) -> np.ndarray | None:
        """A buffer of at least so many bytes, whatever it holds; None where the memory is to have one of its own."""

    def shares(self, memory: Memory) -> bool:
        """Whether the values may be gone after the pass."""

    def keeps_one_copy(self, memory: Memory) -> bool:
        """Whether a memory lets go of the host's copy once the values are in a layout of an engine's."""

    def used(self, memory: Memory) -> None:
        """A memory is about to be read or written to."""

    def written(self, memory: Memory) -> None:
        """A memory is about to get new values."""

    def resized(self, memory: Memory) -> None:
        """A blob with this memory is about to get another count."""
