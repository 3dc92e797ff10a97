#!/usr/bin/env python
"""The command soft-teacher-analyze of this checkout."""

import sys

from soft_teacher.commands.analyze import main

if __name__ == "__main__":
    sys.exit(main())
