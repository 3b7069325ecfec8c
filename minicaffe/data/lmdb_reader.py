"""Reader of LMDB databases, without the LMDB library: the B+tree of the pages in `lmdb_pages`."""

from __future__ import annotations

import functools
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import itemgetter

from minicaffe.data.lmdb_pages import Pages, Record, Values
from minicaffe.errors import DataError
from minicaffe.files import RandomAccessFile

_PAGES_KEPT = 1024  # branch and leaf pages in memory, each
_key = itemgetter(0)


class _Tree:
    """The B+tree of one transaction."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.branch = functools.lru_cache(_PAGES_KEPT)(pages.branch)
        self.leaf = functools.lru_cache(_PAGES_KEPT)(pages.leaf)

    def leaves(self, after: bytes | None = None) -> Iterator[tuple[bytes, list[Record]]]:
        """Iterate over the leaf pages from the one in which `after` is or would be; None: over all.

        Yields the content of each page, and its records.

        DataError when they hold other records than the meta page states, or the same page again.
        """
        meta, last, count, visited = self.pages.meta, b"", 0, 0
        stack = [iter([meta.root] if meta.entries else [])]
        while stack:
            number = next(stack[-1], None)
            if number is None:
                stack.pop()
                continue
            visited += 1
            if visited > self.pages.last_page:
                raise self.pages.damaged("pages of its tree occur more than once")
            if len(stack) < meta.depth:
                keys, children = self.branch(number)
                stack.append(iter(children[bisect_right(keys, after, 1) - 1 :] if after is not None else children))
                continue
            page = self.pages.leaf(number)
            records = self.pages.records(page)
            count += len(records)
            if count > meta.entries or _key(records[0]) <= last:
                raise self.pages.damaged(
                    f"page {number} is out of order or holds more records than the {meta.entries} stated"
                )
            last = _key(records[-1])
            yield page.content, records
        if after is None and count < meta.entries:
            raise self.pages.damaged(f"it holds {count} records, but states {meta.entries}")

    def check_pages(self) -> None:
        """Raise DataError when the file ends before a page of the tree or of a value."""
        for _, records in self.leaves():
            for _, _, size, overflow in records:
                if overflow:
                    self.pages.check_value(overflow, size)

    def items(self, after: bytes | None) -> Iterator[tuple[bytes, memoryview]]:
        """Iterate over the records from the first key greater than `after`; None: over all."""
        values = Values(self.pages)
        for content, records in self.leaves(after):
            view, first = memoryview(content), 0 if after is None else bisect_right(records, after, key=_key)
            for key, at, size, overflow in records[first:] if first else records:
                yield key, values.read(overflow, size) if overflow else view[at : at + size]

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None when there is no such record."""
        number = self.pages.meta.root
        if not self.pages.meta.entries:
            return None
        for _ in range(self.pages.meta.depth - 1):
            keys, children = self.branch(number)
            number = children[bisect_right(keys, key, 1) - 1]
        page = self.leaf(number)
        index = bisect_left(page.nodes, key, key=page.key)
        if index == len(page.nodes) or page.key(page.nodes[index]) != key:
            return None
        _, at, size, overflow = self.pages.record(page, page.nodes[index])
        return bytes(Values(self.pages).read(overflow, size)) if overflow else page.content[at : at + size]


class LmdbReader:
    """An LMDB open for reading; it takes no lock, and several readers can share one folder.

    Each call reads the newest transaction; an iteration stays with the one that was the newest at its start.

    source: the folder.  DataError when it cannot be read, is truncated or not of the supported kind.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            file = RandomAccessFile(os.path.join(source, "data.mdb"))
        except OSError as error:
            raise DataError(f"cannot read LMDB {source}: {error.strerror or error}") from error
        tree = _Tree(Pages(file, source))
        if tree.pages.last_page < tree.pages.meta.last_page:  # truncated, or the last pages were never written
            tree.check_pages()
        self._tree: _Tree | None = tree
        self._length = tree.pages.meta.entries

    def __len__(self) -> int:
        return self._length

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, memoryview]]:
        """Iterate over (key, value) from the first key greater than `after`; None: from the first.

        An iteration may go on after `close`, and in both processes after a fork.
        """
        return self._newest().items(after)

    def keys(self) -> list[bytes]:
        """Return all keys in order; the overflow pages of large values are not read."""
        return [record[0] for _, records in self._newest().leaves() for record in records]

    def get(self, key: bytes) -> bytes:
        """Return the value of a key; DataError when there is no such record."""
        value = self._newest().get(key)
        if value is None:
            raise DataError(f"LMDB {self.source} has no record {key.decode(errors='replace')!r}")
        return value

    def _newest(self) -> _Tree:
        """Return the tree of the newest transaction."""
        if self._tree is None:
            raise DataError(f"cannot read LMDB {self.source}: it is closed")
        if not self._tree.pages.is_newest():
            self._tree = _Tree(Pages(self._tree.pages.file, self.source))
        return self._tree

    def close(self) -> None:
        """Close the file, unless an iteration is in progress, which closes it at its end."""
        self._tree = None

    def __enter__(self) -> LmdbReader:
        return self

    def __exit__(self, *_) -> None:
        self.close()
