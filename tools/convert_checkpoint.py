#!/usr/bin/env python
"""The command soft-teacher-convert of this checkout."""

import sys

from soft_teacher.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
