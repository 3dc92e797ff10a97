#!/usr/bin/env python
"""The command soft-teacher-export of this checkout."""

import sys

from soft_teacher.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
