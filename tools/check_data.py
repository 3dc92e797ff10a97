#!/usr/bin/env python
"""The command soft-teacher-check of this checkout."""

import sys

from soft_teacher.commands.check import main

if __name__ == "__main__":
    sys.exit(main())
