"""Hands the cases of a `LayerProperties` class to its tests, and runs them on each device and engine."""


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("case", metafunc.cls.cases, ids=str)
