"""Progress lines of long jobs: on terminals, in notebooks, and as plain lines elsewhere.

A line is a list of parts (parts.py) that a display shows: terminal.py, notebook.py and plain.py, of which choice.py
takes the one that fits the process's output.  counting.py is the line of a job that counts; that of a training is
minicaffe/solvers/progress.py.  A display belongs to the job that it shows; nothing belongs to the process.
"""
