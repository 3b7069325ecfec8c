"""Downloads that resume after a broken connection and are verified by checksum."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request

from minicaffe.errors import DataError
from minicaffe.files import open_regular
from minicaffe.progress.counting import Progress

_CHUNK = 1 << 16
_LARGEST = 1 << 30  # bytes; no data set here is as large


def md5_of(path: str | os.PathLike) -> str:
    """Return the md5 of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(url: str, path: str | os.PathLike, md5: str, tries: int = 4, pause: float = 1.0) -> None:
    """Download `url` to `path`; a no-op if `path` has this md5 already.

    Partial data are kept in `path`.part; a further attempt, in this or another run, requests the rest only.
    tries: number of attempts (default 4).  pause: seconds before the second attempt, doubled each time (default 1).
    DataError when all attempts fail, or when the md5 differs.
    """
    path = os.fspath(path)
    if os.path.exists(path) and md5_of(path) == md5:
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    part = path + ".part"
    for attempt in range(tries):
        try:
            _fetch(url, part)
            break
        except (OSError, EOFError, http.client.HTTPException) as error:
            status = getattr(error, "code", None)
            if attempt == tries - 1 or (status is not None and 400 <= status < 500):
                kept = f"; {os.path.getsize(part)} bytes are kept in {part}" if os.path.exists(part) else ""
                raise DataError(f"cannot download {url}: {error}{kept}") from error
            time.sleep(pause * 2**attempt)
    found = md5_of(part)
    if found != md5:
        os.remove(part)
        raise DataError(f"{url} is not the expected file: its md5 is {found}, expected {md5}")
    os.replace(part, path)


def _fetch(url: str, part: str) -> None:
    """Download the missing rest of the file `part`; EOFError when the connection ends early.

    DataError for more than 1 GiB.  A redirection leads to http, https or ftp only: urllib refuses others.
    """
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # range not satisfiable: the file is complete; the md5 is checked later
            return
        raise
    with response:
        if response.status != 206:
            have = 0  # the server ignores the range and sends the whole file
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else 0
        with (
            open(part, "ab" if have else "wb") as file,
            Progress(f"download {os.path.basename(url)}", total, "bytes") as progress,
        ):
            progress.start(have)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have)
                if have > _LARGEST:
                    raise DataError(f"{url} is not the expected file: it has more than {_LARGEST} bytes")
    if total and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")
