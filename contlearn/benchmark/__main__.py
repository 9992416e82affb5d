"""The process entry point of one run: `python -m contlearn.benchmark FOLDER`."""

from __future__ import annotations

import sys

from contlearn.benchmark.child import main

if __name__ == "__main__":
    sys.exit(main())
