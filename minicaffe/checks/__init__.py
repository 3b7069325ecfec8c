"""What is wrong with a net, a solver or a data set, before training.

finding.py has the form of a finding and the registry; each stage (static, data, batch) has modules of its own.
"""
