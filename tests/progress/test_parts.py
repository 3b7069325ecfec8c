"""Lines of parts at any width, and the words for times and speeds."""

import random
import re

import pytest

from minicaffe.progress.parts import Bar, Part, bar, columns, cut, duration, fitted, megabytes, speed


@pytest.mark.parametrize("part, expected", [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (7, "████"), (-1, "░░░░")])
def test_bar(part, expected):
    assert bar(part, 4) == expected


def test_bar_in_ascii():
    assert bar(0.5, 4, fancy=False) == "[##..]"


PARTS = [Part("net", 0), Bar(0.5, 2), Part("50%", 3), Part("loss 1.5", 1)]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (100, f"net  {bar(0.5, 20)}  50%  loss 1.5"),
        (40, f"net  {bar(0.5, 20)}  50%  loss 1.5"),
        (39, f"net  {bar(0.5, 19)}  50%  loss 1.5"),
        (25, f"net  {bar(0.5, 5)}  50%  loss 1.5"),
        (24, f"{bar(0.5, 9)}  50%  loss 1.5"),
        (20, f"{bar(0.5, 5)}  50%  loss 1.5"),
        (19, f"{bar(0.5, 14)}  50%"),
        (9, "50%"),
        (3, "50%"),
        (2, ""),
    ],
)
def test_the_bar_shrinks_then_parts_are_left_out(width, expected):
    assert fitted(PARTS, width) == expected


@pytest.mark.parametrize("fancy", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_any_parts_fit_any_width(seed, fancy):
    """No line is too wide, parts are whole and in their order, and a wider line never shows fewer."""
    rng = random.Random(seed)
    names = ["net", "网络", "é\u0301", "a long name of a net", "loss 2.3", "x", "😀"]
    parts = [Part(f"{rng.choice(names)}{i}", rng.randrange(6)) for i in range(rng.randrange(1, 7))]
    parts.insert(rng.randrange(len(parts)), Bar(rng.random(), rng.randrange(6)))
    texts, before = [part.text for part in parts if isinstance(part, Part)], set()
    for width in range(0, 201):
        line = fitted(parts, width, fancy)
        assert columns(line) <= width
        shown = [piece for piece in line.split("  ") if piece and not re.fullmatch(r"[█░]+|\[[#.]+\]", piece)]
        assert shown == [text for text in texts if text in shown]
        assert before <= set(shown)
        before = set(shown)
    assert before == set(texts)


def test_names_cannot_control_the_terminal():
    assert fitted([Part("a\x1b[31m\nb", 0)], 80) == r"a\x1b[31m\nb"
    assert fitted([Part("\x1b", 0)], 3) == ""  # it needs four columns


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("网络", 4), ("e\u0301", 1), ("😀", 2), ("a\u200bb", 2), ("", 0)]
)
def test_columns(text, width):
    assert columns(text) == width


def test_cut_between_wide_characters():
    assert [cut("a网络", width) for width in range(6)] == ["", "a", "a", "a网", "a网", "a网络"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "0 s"), (40, "40 s"), (59.4, "59 s"), (59.6, "1 min"), (89, "1 min"), (180, "3 min"),
        (3569, "59 min"), (3580, "1 h"), (3600, "1 h"), (7800, "2 h 10 min"), (86369, "23 h 59 min"), (86390, "1 d"),
        (97200, "1 d 3 h"), (10 * 86400, "10 d"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_durations_are_close_and_never_decrease():
    units, last = {"s": 1, "min": 60, "h": 3600, "d": 86400}, 0
    for seconds in [*range(0, 8000), *range(8000, 400_000, 97)]:
        value = sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", duration(seconds)))
        assert value >= last
        assert abs(value - seconds) <= max(0.5, 0.5 * (60 if seconds < 86370 else 3600)) if seconds >= 60 else True
        last = value


@pytest.mark.parametrize(
    ("rate", "unit", "text"),
    [
        (1234.5, "images", "1,234 images/s"), (63.21, "images", "63.2 images/s"), (0.153, "batches", "0.15 batches/s"),
        (2.5e6, "bytes", "2.5 MB/s"), (5e4, "bytes", "0.05 MB/s"),
    ],
)  # fmt: skip
def test_speed(rate, unit, text):
    assert speed(rate, unit) == text


def test_megabytes():
    assert megabytes(170_498_071) == "170"
