"""The structure of the checkout, from its syntax trees: imports, whether they go down, and state of modules.

    imports.py      every import in the checkout, found in the syntax tree
    floors.py       the table of floors in docs/design.md, and the imports that contradict it
    state.py        state that belongs to modules

`tools/draw_house.py` draws the picture in docs/design.md from the same.
"""
