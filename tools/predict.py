#!/usr/bin/env python
"""The command soft-teacher-predict of this checkout."""

import sys

from soft_teacher.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
