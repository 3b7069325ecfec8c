"""Training logs: the tables, the seconds and, of one in a hundred, the pictures."""

import zlib

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.errors import UsageError
from minicaffe.pictures.parse_log import read_curves

_STAMP = "I0210 13:39:{:02}.381027 25210 solver.cpp:204] "


def _examples():
    lines = ["Solving tiny"]
    for i in range(0, 40, 10):
        lines += [
            f"Iteration {i}, Testing net (#0)",
            f"    Test net output #0: accuracy = {i / 50}",
            f"    Test net output #1: loss = {2 - i / 30} (* 1 = {2 - i / 30} loss)",
            f"Iteration {i} (2.5 iter/s, 4s/10 iters), loss = {2 - i / 30}",
            f"    Train net output #0: loss = {2 - i / 30} (* 1 = {2 - i / 30} loss)",
            f"Iteration {i}, lr = 0.01",
        ]
    stamped = "\n".join(_STAMP.format(i) + line for i, line in enumerate(lines))
    return [stamped.encode(), "\n".join(lines).encode()]


def _change(rng, content):
    """Change words, or put a number, a month or a name in place of another, or repeat a part many times."""
    if rng.random() < 0.6:
        return mutate.change_words(rng, content)
    parts = [
        b"Iteration ",
        b"Train net output #0: ",
        b" = ",
        b", loss = ",
        b"1",
        b" ",
        b"Solving ",
        b"I1231 ",
        b"I0229 ",
    ]
    data = content
    for _ in range(int(rng.integers(1, 5))):
        old, new = mutate.pick(rng, parts), mutate.pick(rng, [*parts, b"\n", b"$x_{1$", b"1.#INF", b"nan(1)", b"1e308"])
        data = data.replace(old, new * int(rng.choice([1, 1, 2, 100])), int(rng.integers(1, 9)))
    return data[: 1 << 18]


def _case(content):
    def curves():
        try:
            read_curves("train.log")
        except UsageError:
            pass

    actions = [["parse_log", "train.log", "."], ["extract_seconds", "train.log", "seconds"], curves]
    if zlib.crc32(content) % 100 == 0:
        actions += [["plot", "train.log"], ["plot_training_log", "6", "chart.png", "train.log"]]
    return Case({"train.log": content}, actions)


log = Kind("log", _examples, _case, _change)
