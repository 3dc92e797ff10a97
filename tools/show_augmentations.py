#!/usr/bin/env python
"""The command soft-teacher-augmentations of this checkout."""

import sys

from soft_teacher.commands.augmentations import main

if __name__ == "__main__":
    sys.exit(main())
