"""What a primitive of oneDNN is: created once for each description, bound to tensors, executed."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_void_p

from minicaffe.core.places import observed
from minicaffe.onednn import library
from minicaffe.onednn.library import Arg, ExecArg, call, dims
from minicaffe.onednn.tensors import MemoryDesc, Tensor, intern_desc, scratch

_EXEC_ARG_DESC = 255
_IMPLEMENTATION = 8  # dnnl_query_impl_info_str
_SCRATCHPAD_BY_USER = 1
_SAME_TYPE = 0
_ONE_FOR_ALL = 0  # mask: one slope for all channels


class Primitive:
    """A computation compiled for given layouts (dnnl_primitive_desc_t and dnnl_primitive_t).

    Freed with the last reference to it.  constants: memory of arguments that are the same in every execution.
    """

    def __init__(self, desc: c_void_p, name: str, constants: dict[int, Tensor] | None = None):
        self.name = name
        self.constants = constants or {}
        self.pd = desc
        self.handle = c_void_p()
        self._descs: dict[int, MemoryDesc | None] = {}
        lib = library.load()
        self._frees = [(lib.dnnl_primitive_desc_destroy, desc)]  # functions kept here: modules may be gone at exit
        call("primitive_create", byref(self.handle), desc)
        self._frees.insert(0, (lib.dnnl_primitive_destroy, self.handle))
        self.scratchpad = self.desc(Arg.SCRATCHPAD)

    def __del__(self):
        for free, handle in self._frees:
            free(handle)

    def desc(self, arg: int) -> MemoryDesc | None:
        """The layout of one argument; None if the primitive does not use it."""
        try:
            return self._descs[arg]
        except KeyError:
            found = library.load().dnnl_primitive_desc_query_md(self.pd, _EXEC_ARG_DESC, int(arg))
            desc = self._descs[arg] = intern_desc(c_void_p(found))
            return desc

    def bind(self, memories: dict[int, Tensor]) -> Execution:
        """Return the execution on this memory, by argument; calling it computes."""
        return Execution(self, memories)

    def run(self, memories: dict[int, Tensor]) -> None:
        """Compute once on this memory."""
        Execution(self, memories)()


class Execution:
    """A primitive with its arguments; calling it computes. It holds references to the tensors."""

    __slots__ = ("_execute", "_handle", "_count", "_args", "_pointer", "_scratch", "_primitive", "memories")

    def __init__(self, primitive: Primitive, memories: dict[int, Tensor]):
        self.memories = {arg: memory for arg, memory in memories.items() if memory is not None}
        memories = {**self.memories, **primitive.constants}
        self._scratch = None
        if primitive.scratchpad is not None:
            self._scratch = Tensor(primitive.scratchpad, scratch(primitive.scratchpad.size))
            memories = {**memories, Arg.SCRATCHPAD: self._scratch}
        self._args = (ExecArg * len(memories))(*(ExecArg(int(arg), memory.handle) for arg, memory in memories.items()))
        self._pointer = c_void_p(ctypes.addressof(self._args))
        self._count = len(memories)
        self._primitive = primitive
        self._handle = primitive.handle
        self._execute = library.load().dnnl_primitive_execute

    def __call__(self) -> None:
        local = library.local()
        if self._scratch is not None and self._scratch.buffer is not local.scratch:
            self._scratch.move(scratch(self._scratch.desc.size))
        status = self._execute(self._handle, local.stream, self._count, self._pointer)
        if status:
            library.check(status, self._primitive.name)
        if observed.observer is not None:
            observed.observer.ran(self)


class Attr:
    """dnnl_primitive_attr_t for one creation call: post-operations, and a scratchpad that the caller provides.

    post: tuple of ("eltwise", alg, alpha, beta), ("sum", scale), ("binary", alg, MemoryDesc) and ("prelu",), whose
        single slope is an argument of the primitive.
    """

    def __init__(self, post: tuple = ()):
        self.handle, self._post = c_void_p(), c_void_p()
        call("primitive_attr_create", byref(self.handle))
        call("primitive_attr_set_scratchpad_mode", self.handle, _SCRATCHPAD_BY_USER)
        if not post:
            return
        call("post_ops_create", byref(self._post))
        for kind, *values in post:
            if kind == "eltwise":
                alg, alpha, beta = values
                call("post_ops_append_eltwise", self._post, int(alg), c_float(alpha), c_float(beta))
            elif kind == "sum":
                call("post_ops_append_sum", self._post, c_float(values[0]), 0, _SAME_TYPE)
            elif kind == "prelu":
                call("post_ops_append_prelu", self._post, _ONE_FOR_ALL)
            else:
                call("post_ops_append_binary", self._post, int(values[0]), values[1].handle)
        call("primitive_attr_set_post_ops", self.handle, self._post)

    def __enter__(self) -> c_void_p:
        return self.handle

    def __exit__(self, *error) -> None:
        if self._post:
            call("post_ops_destroy", self._post)
        call("primitive_attr_destroy", self.handle)


def native(value):
    """Convert an argument of a C call from Python."""
    if isinstance(value, MemoryDesc):
        return value.handle
    if isinstance(value, Primitive):
        return value.pd
    if isinstance(value, float):
        return c_float(value)
    if isinstance(value, tuple):
        return dims(value)
    return int(value) if isinstance(value, int) else value


def create(
    name: str, *args, post: tuple = (), constants: dict[int, Tensor] | None = None, prefer: str = ""
) -> Primitive:
    """Make a primitive by `dnnl_<name>_primitive_desc_create`.

    prefer: the implementation to use, by the name that oneDNN gives it, if there is one for these arguments; by default
        the one that oneDNN offers first.
    """
    desc = c_void_p()
    with Attr(post) as attr:
        call(name + "_primitive_desc_create", byref(desc), library.engine(), *map(native, args), attr)
    return Primitive(_implementation(desc, prefer) if prefer else desc, name, constants)


def _implementation(first: c_void_p, name: str) -> c_void_p:
    """The implementation of that name among those from `first` on, else `first`; the other one is freed."""
    lib, copy = library.load(), c_void_p()
    call("primitive_desc_clone", byref(copy), first)  # a clone cannot be moved to the next implementation
    while implementation(first) != name:
        if lib.dnnl_primitive_desc_next_impl(first):  # there are no more
            lib.dnnl_primitive_desc_destroy(first)
            return copy
    lib.dnnl_primitive_desc_destroy(copy)
    return first


def implementation(desc: c_void_p) -> str:
    """oneDNN's name for the implementation of a dnnl_primitive_desc_t, "jit:avx512_core" for example."""
    name = c_char_p()
    call("primitive_desc_query", desc, _IMPLEMENTATION, 0, byref(name))
    return (name.value or b"").decode()


KEPT = 256  # primitives that are kept after their last use; one takes 20 to 100 KB


@functools.lru_cache(maxsize=KEPT)
def find(make: Callable[..., Primitive], args: tuple, options: tuple) -> Primitive:
    """The primitive that is in use for this description, or a new one."""
    key = make, args, options
    with library.RUNTIME.lock:
        primitive = library.RUNTIME.primitives.get(key)
        if primitive is None:
            primitive = library.RUNTIME.primitives[key] = make(*args, **dict(options))
    return primitive


def cached_primitive(make: Callable[..., Primitive]) -> Callable[..., Primitive]:
    """Decorator: make the primitive only if there is none for this description."""

    @functools.wraps(make)
    def cached(*args, **options):
        return find(make, args, tuple(sorted(options.items())))

    return cached
