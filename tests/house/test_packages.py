"""setup.cfg lists every package: what is missing there is missing in an installed minicaffe."""

import configparser

from house.imports import ROOT


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    folders = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    found = set()
    for package, folder in folders.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([package, *path.parent.relative_to(ROOT / folder).parts]))
    assert found == set(setup["options"]["packages"].split())


def test_data_of_packages_are_of_packages_with_such_files():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    folders = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    for package, patterns in setup["options.package_data"].items():
        top = max((each for each in folders if f"{package}.".startswith(f"{each}.")), key=len)
        folder = ROOT / folders[top] / package.removeprefix(top).strip(".").replace(".", "/")
        for pattern in patterns.split(","):
            assert list(folder.glob(pattern.strip())), f"{package} has no files {pattern.strip()}"
