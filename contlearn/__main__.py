"""`python -m contlearn`."""

from __future__ import annotations

from contlearn.cli import main

if __name__ == "__main__":
    main()
