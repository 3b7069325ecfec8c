"""The house as its imports show it: which module imports which, and whether only downwards.

    imports.py      every import in the checkout, found in the syntax tree
    floors.py       the table of floors in docs/design.md, and what contradicts it

`tools/draw_house.py` draws the picture in docs/design.md from the same.
"""
