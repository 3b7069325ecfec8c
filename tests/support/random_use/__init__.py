"""Random nets and random operations on them, to compare engines.

Every engine must show, in every blob and at every moment, what the numpy layers run one by one would have left there.
A *program* is a small net and a list of operations (passes, partial passes, reads, writes, views that are kept,
reshapes, new weights, solver steps), drawn from one integer.  It is played on several engines at once, and what the
operations show is compared.

    nets.py         the grammar of the nets
    operation.py    what a script may do to a net, one class each: passes.py, blobs.py, whole_nets.py
    operations.py   how often programs use each
    player.py       the engines, and the nets of a program in one of them
    program.py      draws programs
    compare.py      plays a program on several engines, and reduces one on which they disagree

`tools/random_use.py` plays thousands.
"""
