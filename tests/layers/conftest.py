"""Parametrizes the tests of a `LayerProperties` class with its cases."""


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("case", metafunc.cls.cases, ids=str)
