"""`python -m contlearn.inference check FOLDER`: load a model and compare its golden answers.

The registry starts this in a child before a promotion, so that a model that crashes or eats all
memory takes only the child with it. One JSON object goes to standard output; the exit code is 0
when the model is what its manifest says.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from contlearn.errors import ContlearnError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m contlearn.inference")
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="load a model and compare its golden answers")
    check.add_argument("folder", type=Path)
    check.add_argument("--threads", type=int, default=0)
    check.add_argument("--plugins-dir", type=Path)
    check.add_argument("--blocked", action="append", default=[])
    options = parser.parse_args(arguments)
    result = check_folder(
        options.folder,
        threads=options.threads,
        plugins_dir=options.plugins_dir,
        blocked=options.blocked,
    )
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["ok"] else 1


def check_folder(
    folder: Path,
    *,
    threads: int = 0,
    plugins_dir: Path | None = None,
    blocked: Sequence[str] = (),
) -> dict[str, object]:
    """Load a model as a server would and compare its golden answers."""
    from contlearn.inference.golden import check_golden
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.papers.manifest import find_manifest, read_manifest
    from contlearn.plugins.manager import PluginManager

    started = time.monotonic()
    try:
        manager = PluginManager(folder=plugins_dir, blocked=blocked, quiet=True)
        predictor = OnnxPredictor.load(folder, manager=manager, threads=threads)
        golden = read_manifest(find_manifest(folder)).golden
        # The fp32 twin cannot repeat the digits of an int8 model; loading and answering is enough.
        recorded = golden.get("precision") if golden else None
        problems = check_golden(predictor, golden) if predictor.precision == recorded else []
        if golden is None:
            problems = ["the manifest has no golden answers to compare with"]
        predictor.close()
    except ContlearnError as error:
        return {"ok": False, "folder": str(folder), "problems": [error.what], **error.to_json()}
    return {
        "ok": not problems,
        "folder": str(folder),
        "precision": predictor.precision,
        "notes": list(predictor.notes),
        "problems": problems,
        "seconds": round(time.monotonic() - started, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
