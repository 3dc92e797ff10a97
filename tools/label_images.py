#!/usr/bin/env python
"""The command soft-teacher-label of this checkout."""

import sys

from soft_teacher.commands.label import main

if __name__ == "__main__":
    sys.exit(main())
