"""Random nets and random operations on them, to compare engines.

On every engine, every blob must at any time have the values that the numpy layers, run one by one, would give it.
A *program* is a small net and a list of operations (passes, partial passes, reads, writes, views that are held,
reshapes, new weights, solver steps), generated from one integer.  It is run on several engines, and the results of the
operations are compared.

    nets.py         the grammar of the nets; forks.py: with layer types of the forks
    operation.py    what a script may do to a net, one class each: passes.py, blobs.py, whole_nets.py
    operations.py   how often programs use each
    player.py       the engines, and the nets of a program in one of them
    program.py      draws programs
    compare.py      plays a program on several engines, and reduces one on which they disagree

`tools/random_use.py` runs any number of programs.
"""
