"""The questions of gpu_check.py.

Each module has a function ``rows(job)`` that yields (title of a table, row) as soon as it knows
the row, a dict of column -> value. A column ``holds`` says whether a check came out right; one
``did not run`` says why there are no figures.
"""

import sys
from pathlib import Path

# The benchmarks whose parts the sections measure.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
