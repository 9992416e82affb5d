"""How large an environment is that has one extra of contlearn.

python -m tests.benchmarks.environments [--before FOLDER] [EXTRA…]

A fresh virtual environment, the pinned versions, nothing else; what pip itself brings counts too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.common import append_row

ROOT = Path(__file__).parents[2]


def measure(root: Path, extra: str) -> tuple[float, int]:
    """Give megabytes and number of the packages of a checkout with an extra."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run(
            [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python),
             "--constraint", str(root / "constraints.txt"), f"{root}[{extra}]"],
            check=True,
        )  # fmt: skip
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        size = sum(p.lstat().st_size for p in packages.rglob("*") if p.is_file())
        return size / 1e6, sum(1 for _ in packages.glob("*.dist-info"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", default=["serve"])
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    options = parser.parse_args()
    for extra in options.extras or ["serve"]:
        size, packages = measure(ROOT, extra)
        beside = f"{packages} packages"
        if options.before is not None:
            former, many = measure(options.before, extra)
            beside += f"; before {former:.0f} MB, {many} packages: {size / former:.2f} of it"
        append_row(
            "startup",
            {
                "measure": f"environment with contlearn[{extra}]",
                "value": round(size, 1),
                "unit": "MB",
                "beside": beside,
            },
        )


if __name__ == "__main__":
    main()
