#!/usr/bin/env python
"""The command soft-teacher-report of this checkout."""

import sys

from soft_teacher.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
