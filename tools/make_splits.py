#!/usr/bin/env python
"""The command soft-teacher-splits of this checkout."""

import sys

from soft_teacher.commands.splits import main

if __name__ == "__main__":
    sys.exit(main())
