"""Log lines as the original prints them: glog's prefix, then the text.

    I0804 10:22:42.074671  8318 base.py:218] Iteration 100, lr = 0.00992565

Severity, month and day, time, thread, file and line; what is on further lines of one record stands without a prefix.
"""

from __future__ import annotations

import logging
import threading
import time


class GlogFormatter(logging.Formatter):
    """Puts glog's prefix before a record; a newline at its end is the line's own, so no empty line follows."""

    def format(self, record: logging.LogRecord) -> str:
        severity = {"INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}.get(record.levelname, "I")
        when = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        microseconds = int(record.created % 1 * 1e6)
        place = f"{threading.get_native_id():5d} {record.filename}:{record.lineno}"
        return f"{severity}{when}.{microseconds:06d} {place}] {record.getMessage().removesuffix(chr(10))}"
