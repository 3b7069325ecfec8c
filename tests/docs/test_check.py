"""docs/check.md has a paragraph for each code of `minicaffe check`, and no other."""

import re
from pathlib import Path

from minicaffe.checks.running import codes

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "check.md").read_text(encoding="utf-8")


def test_each_code_has_one_paragraph():
    headings = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)
    assert sorted(headings) == sorted(codes())


def test_no_paragraph_is_empty():
    for part in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        assert re.match(r"\n[A-Z`].+\.\n", text, re.DOTALL), heading
