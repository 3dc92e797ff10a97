#!/usr/bin/env python
"""The command soft-teacher-demo of this checkout."""

import sys

from soft_teacher.commands.demo import main

if __name__ == "__main__":
    sys.exit(main())
