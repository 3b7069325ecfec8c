"""The floors of docs/design.md, and the imports that go up or between two engines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from house.imports import ROOT, SCRIPTS, Import

PAGE = ROOT / "docs" / "design.md"


@dataclass(frozen=True)
class Floor:
    """A row of the table.

    groups: the modules and packages, as the table writes them (`layers/shared/`, `io`). Those of one group may import
    each other; those of another group of the same floor may not (a semicolon separates groups).
    """

    name: str
    groups: tuple[tuple[str, ...], ...]
    purpose: str

    @property
    def members(self) -> list[str]:
        return [member for group in self.groups for member in group]


@lru_cache(maxsize=1)
def floors() -> tuple[Floor, ...]:
    """The table under "Floors" in docs/design.md, from the top to the ground."""
    section = PAGE.read_text(encoding="utf-8").partition("## Floors")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.split("\n") if line.startswith("| ")]
    return tuple(
        Floor(name.strip(), tuple(tuple(re.findall("`(.*?)`", group)) for group in members.split(";")), purpose.strip())
        for name, members, purpose in rows[1:]
    )


def module_name(member: str) -> str:
    """The module name of a member of a floor: `layers/shared/` is minicaffe.layers.shared."""
    name = member.strip("/").replace("/", ".").removesuffix(".__init__")
    return name if name in (*SCRIPTS, "minicaffe") else f"minicaffe.{name}"


@cache
def place(module: str) -> tuple[int, int, str] | None:
    """Floor (0 is the top), group and member that a module belongs to, by the longest name; None if none has it."""
    found = None
    for number, floor in enumerate(floors()):
        for group, members in enumerate(floor.groups):
            for member in members:
                name = module_name(member)
                inside = module == name or (module.startswith(f"{name}.") and name != "minicaffe")
                if inside and (found is None or len(name) > len(module_name(found[2]))):
                    found = number, group, member
    return found


def goes_down(one: Import) -> bool:
    """Whether an import stays in its group or goes to a lower floor."""
    above, below = place(one.importer), place(one.imported)
    if above is None or below is None:
        return False
    return below[0] > above[0] or below[:2] == above[:2]
