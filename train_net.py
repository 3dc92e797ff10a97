#!/usr/bin/env python
"""The command soft-teacher-train of this checkout."""

import sys

from soft_teacher.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
