"""The pages of an LMDB data file, read one by one.

The LMDB library maps a file into memory and trusts it: a damaged page number ends the process, and so does a file that
is truncated while it is mapped.  Here everything in a page is checked before it is used.

A file is a sequence of pages of one size.  Pages 0 and 1 are meta pages; the one with the newer transaction gives the
root of a B+tree.  Branch pages hold keys and page numbers, leaf pages hold records, and a value that is too large for a
leaf has overflow pages of its own.  Numbers are little-endian, of a 64-bit system.  Format: mdb.c of LMDB 0.9.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from minicaffe.errors import DataError
from minicaffe.files import RandomAccessFile

_HEADER = struct.Struct("<QHHHH")  # page number, unused, flags, start and end of the free space
_OVERFLOW_HEADER = struct.Struct("<Q2xHI")  # page number, flags, number of pages
_META = struct.Struct("<10xH4x II16x 48s48s QQ")  # flags; magic, version; two tables; last page, transaction
_TABLE = struct.Struct("<I HH QQQQQ")  # page size (in the first), flags, depth, pages of three kinds, entries, root
_NODE = struct.Struct("<IHH")  # size of the value, flags, length of the key; in a branch the first two: a page number
_NUMBER = struct.Struct("<Q")

_MAGIC, _VERSION, _NO_PAGE = 0xBEEFC0DE, 1, (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE, _KINDS = 0x01, 0x02, 0x04, 0x08, 0x6F  # flags of pages; the mask of all kinds
_BIG = 0x01  # flag of a node whose value is in overflow pages; others are of named databases and of duplicates
_ORDERS = 0x7E  # flags of a table whose keys have another order, or several values
_MAX_DEPTH = 32  # the library's limit
_AHEAD = 1 << 16  # bytes of values that are read together

Record = tuple[bytes, int, int, int]  # key; position and size of the value; its overflow page, or 0: it is in the leaf


class Meta(NamedTuple):
    """The meta page of a transaction."""

    page_size: int
    last_page: int
    transaction: int
    flags: int
    depth: int
    leaf_pages: int
    entries: int
    root: int


class Page(NamedTuple):
    """A branch or leaf page, and the positions of its nodes."""

    number: int
    content: bytes
    nodes: tuple[int, ...]

    def key(self, node: int) -> bytes:
        """Return the key of a node, as far as it lies in the page."""
        start = node + _NODE.size
        return self.content[start : start + _NODE.unpack_from(self.content, node)[2]]


class Pages:
    """The pages that are valid in one transaction, the newest one when this object is made.

    `last_page`: the last one that is in the file.  It may be less than the meta page states: the library does not write
    pages that were allocated and freed in one transaction.

    file: data.mdb.  source: the database, for messages.
    All methods raise DataError for pages that are damaged or missing.
    """

    def __init__(self, file: RandomAccessFile, source: str) -> None:
        self.source, self.file = source, file
        self._heads = self._read_heads()
        self.meta = max((self._read_meta(head) for head in self._heads), key=lambda meta: meta.transaction)
        self.last_page = min(self.meta.last_page, file.size // self.meta.page_size - 1)
        self._check()

    # -- meta pages ------------------------------------------------------------------------------------------------

    def is_newest(self) -> bool:
        """Whether there has been no further transaction."""
        content = self.file.read(self.meta.page_size + _META.size, 0)
        return self._heads == (content[: _META.size], content[self.meta.page_size :])

    def _read_heads(self) -> tuple[bytes, bytes]:
        """Return the bytes of both meta pages, without what follows in them."""
        size = self.file.size
        if size < _META.size:
            raise DataError(f"LMDB {self.source} is truncated: data.mdb has {size} bytes, less than one page")
        first = self.file.read(_META.size, 0)
        page_size = self._read_meta(first).page_size
        if size < page_size + _META.size:
            raise DataError(f"LMDB {self.source} is truncated: data.mdb has {size} bytes, less than two pages")
        return first, self.file.read(_META.size, page_size)

    def _read_meta(self, head: bytes) -> Meta:
        kind, magic, version, free, table, last_page, transaction = _META.unpack(head)
        if magic != _MAGIC:
            raise DataError(f"{self.file.path} is no LMDB data file: magic number {magic:#x}, expected {_MAGIC:#x}")
        if version != _VERSION:
            raise DataError(f"LMDB {self.source} has version {version} of the format, expected {_VERSION}")
        page_size = _TABLE.unpack(free)[0]
        if not 256 <= page_size <= 32768 or page_size & page_size - 1 or not kind & _META_PAGE:
            raise self.damaged(f"its meta page states pages of {page_size} bytes")
        _, flags, depth, _, leaf_pages, _, entries, root = _TABLE.unpack(table)
        return Meta(page_size, last_page, transaction, flags, depth, leaf_pages, entries, root)

    def _check(self) -> None:
        """Raise DataError for a meta page that contradicts itself or the file."""
        meta = self.meta
        if meta.flags & _ORDERS:
            raise DataError(f"LMDB {self.source} has duplicate keys or another order of keys, which is not supported")
        if meta.entries == 0 and meta.root == _NO_PAGE:
            return
        if not 1 <= meta.depth <= _MAX_DEPTH:
            raise self.damaged(f"its tree has {meta.depth} levels, expected 1 to {_MAX_DEPTH}")
        self._check_number(meta.root)
        most = min(meta.leaf_pages, self.last_page) * meta.page_size // 10
        if not 0 < meta.entries <= most or meta.leaf_pages > meta.last_page:
            raise self.damaged(f"{meta.leaf_pages} of its {self.last_page + 1} pages hold {meta.entries} records")

    def damaged(self, what: str) -> DataError:
        """Return the exception for a page that is not what it should be."""
        return DataError(f"LMDB {self.source} is damaged: {what}")

    # -- pages -----------------------------------------------------------------------------------------------------

    def branch(self, number: int) -> tuple[list[bytes], list[int]]:
        """Return the smallest key of each child, and the children's page numbers; the first key stands for any."""
        page, keys, children = self._page(number, _BRANCH), [], []
        for node in page.nodes:
            low, high, _ = _NODE.unpack_from(page.content, node)
            keys.append(page.key(node))
            children.append(high << 32 | low)
        return keys, children

    def leaf(self, number: int) -> Page:
        """Return a leaf page; its nodes are not checked yet."""
        return self._page(number, _LEAF)

    def _page(self, number: int, kind: int) -> Page:
        size = self.meta.page_size
        self._check_number(number)
        content = self.file.read(size, number * size)
        own, _, flags, lower, upper = _HEADER.unpack_from(content)
        if own != number or flags & _KINDS != kind:
            raise self.damaged(f"page {number} is no {'leaf' if kind == _LEAF else 'branch'} page")
        if not _HEADER.size <= lower <= upper <= size:
            raise self.damaged(f"page {number} states free space from {lower} to {upper}")
        nodes = struct.unpack_from(f"<{lower - _HEADER.size >> 1}H", content, _HEADER.size)
        if not nodes or min(nodes) < upper or max(nodes) + _NODE.size > size:
            raise self.damaged(f"page {number} has nodes outside of it")
        return Page(number, content, nodes)

    def _check_number(self, number: int) -> None:
        if not 2 <= number <= self.meta.last_page:
            raise self.damaged(f"it refers to page {number}, expected 2 to {self.meta.last_page}")
        if number > self.last_page:
            raise self._truncated((number + 1) * self.meta.page_size)

    def check_value(self, number: int, size: int) -> None:
        """Raise DataError unless a value of `size` bytes that begins in overflow page `number` may be in the file."""
        end = number * self.meta.page_size + _OVERFLOW_HEADER.size + size
        if end > (self.meta.last_page + 1) * self.meta.page_size:
            raise self.damaged(f"a value of {size} bytes begins in page {number}, close to its end")
        if end > (self.last_page + 1) * self.meta.page_size:
            raise self._truncated(end)

    def _truncated(self, expected: int) -> DataError:
        size = self.file.size
        return DataError(f"LMDB {self.source} is truncated: data.mdb has {size} bytes, expected at least {expected}")

    def records(self, page: Page) -> list[Record]:
        """Return the records of a leaf page, whose keys ascend."""
        room, previous, records = len(page.content), b"", []
        for node in page.nodes:
            record = self.record(page, node)
            key, at, size, overflow = record
            room -= at - node + (8 if overflow else size)
            if key <= previous or room < 0:
                raise self.damaged(f"page {page.number} has nodes that overlap or are out of order")
            previous = key
            records.append(record)
        return records

    def record(self, page: Page, node: int) -> Record:
        """Return the record in one node of a leaf page."""
        size, flags, length = _NODE.unpack_from(page.content, node)
        at = node + 8 + length
        overflow, end = 0, at + size
        if flags == _BIG and at + 8 <= len(page.content):
            (overflow,), end = _NUMBER.unpack_from(page.content, at), at + 8
            self._check_number(overflow)
        elif flags in (2, 4, 6):
            raise DataError(f"LMDB {self.source} holds named databases or duplicate keys, which are not supported")
        elif flags:
            raise self.damaged(f"page {page.number} has a node of unknown kind {flags:#x}")
        if end > len(page.content):
            raise self.damaged(f"page {page.number} has a node that ends outside of it")
        return page.content[node + 8 : at], at, size, overflow


class Values:
    """Reader of the values that are in overflow pages; small ones that follow one another are read together."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._end = (pages.last_page + 1) * pages.meta.page_size  # of the pages in the file, in bytes
        self._room = self._end  # bytes of values that may still come
        self._content, self._start = b"", 0  # the part of the file read last
        self._next = 0  # where a value begins that follows the last one

    def read(self, number: int, size: int) -> memoryview:
        """Return the value of `size` bytes that begins in overflow page `number`.

        DataError for a damaged page, and when the values have more bytes than the file.
        """
        page_size, start, length = self._pages.meta.page_size, number * self._pages.meta.page_size, size + 16
        at = start - self._start
        if at < 0 or at + length > len(self._content):
            ahead = start == self._next and 4 * length <= _AHEAD
            self._pages.check_value(number, size)
            count = min(_AHEAD, self._end - start) if ahead else length
            self._content, self._start, at = self._pages.file.read(count, start), start, 0
        own, flags, pages = _OVERFLOW_HEADER.unpack_from(self._content, at)
        self._room -= size
        if own != number or flags & _KINDS != _OVERFLOW or pages * page_size < length or self._room < 0:
            raise self._pages.damaged(f"page {number} does not hold a value of {size} bytes")
        self._next = start + pages * page_size
        return memoryview(self._content)[at + 16 : at + length]
