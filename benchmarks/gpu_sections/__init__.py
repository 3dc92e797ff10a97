"""The questions of gpu_check.py.

Each module has a function ``rows(job)`` that yields (title of a table, row) as soon as it knows
the row, a dict of column -> value. A column ``holds`` says whether a check came out right; one
``did not run`` says why there are no figures.
"""
