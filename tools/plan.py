#!/usr/bin/env python
"""The command soft-teacher-plan of this checkout."""

import sys

from soft_teacher.commands.plan import main

if __name__ == "__main__":
    sys.exit(main())
