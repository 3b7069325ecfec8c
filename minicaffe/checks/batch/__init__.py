"""Checks of one batch: what the nets compute, forward and backward, before the first update."""


class FirstBatch:
    def __init__(self, subject):
        pass
