"""The log of several ranks: the root's lines, and what is wrong at the others."""

import logging

import minicaffe
from helpers.ranks import run_ranks


def test_other_ranks_log_warnings_with_their_number(tmp_path, monkeypatch):
    logger = logging.getLogger("minicaffe")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    minicaffe.init_log(0, str(tmp_path / "log"))

    def work(group):
        for name in ("minicaffe", "minicaffe.data"):
            logging.getLogger(name).info("reads %d", group.rank)
        logger.warning("a\nb%s", group.rank)

    run_ranks(3, work)
    for handler in logger.handlers:
        handler.close()
    lines = [line.partition("] ")[2] for line in (tmp_path / "log").read_text().splitlines() if "] " in line]
    assert sorted(lines) == ["a", "rank 1: a", "rank 2: a", "reads 0", "reads 0"]
