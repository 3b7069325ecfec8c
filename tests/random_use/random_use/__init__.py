"""Random nets and random operations on them, to compare engines.

On every engine, every blob must at any time have the values that the numpy layers, run one by one, would give it.
A *program* is a small net and a list of operations (passes, partial passes, reads, writes, views that are held,
reshapes, new weights, solver steps), generated from one integer.  It is run on several engines, and the results of the
operations are compared.

    nets.py         generates nets
    operation.py    base class of operations; the operations are in passes.py, blobs.py and whole_nets.py
    operations.py   relative frequencies of the operations
    player.py       runs operations on the nets of a program, on one engine
    program.py      generates programs
    compare.py      runs a program on several engines, and reduces one on which they disagree

`tools/random_use.py` runs any number of programs.
"""
