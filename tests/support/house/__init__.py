"""The house as its syntax trees show it: which module imports which, whether only downwards, and what it keeps.

    imports.py      every import in the checkout, found in the syntax tree
    floors.py       the table of floors in docs/design.md, and what contradicts it
    state.py        state that belongs to modules

`tools/draw_house.py` draws the picture in docs/design.md from the same.
"""
