"""`python -m contlearn.training FOLDER`: the child process of an update cycle."""

from __future__ import annotations

import sys

from contlearn.cycle.child import main

if __name__ == "__main__":
    sys.exit(main())
