"""The logger "minicaffe" belongs to the process: no test leaves its settings to the tests that come after it."""

import logging

import pytest

LOGGER = logging.getLogger("minicaffe")


@pytest.mark.parametrize("turn", ["first", "second"])
def test_the_logger_is_as_before(turn):
    assert (LOGGER.level, LOGGER.propagate, LOGGER.filters) == (logging.NOTSET, True, [])
    assert not any(isinstance(handler, logging.NullHandler) for handler in LOGGER.handlers)
    LOGGER.setLevel(logging.ERROR)
    LOGGER.propagate = False
    LOGGER.addHandler(logging.NullHandler())
    LOGGER.addFilter(lambda record: False)
