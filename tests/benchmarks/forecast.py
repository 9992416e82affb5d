"""The forecast that `contlearn update` gives before it starts, against what the update then took.

    python -m tests.benchmarks.forecast

Three domains of CLINC150 go through the program, each with the default settings. The first update
says that it knows nothing yet; the later ones know how long the ones before took.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from tests.benchmarks.commands import CONFIG, run, write
from tests.benchmarks.common import append_row
from tests.benchmarks.learning import clinc150


def main() -> None:
    """Measure, and append a row for each update."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--texts", type=int, default=10, help="of each intent")
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--loaded", action="store_true", help="other work shares the machine")
    chosen = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        run(root, "init", str(root))
        text = CONFIG.format(
            task="text-classification", max_tokens=64, names="", records_per_label=5
        )
        (root / "contlearn.toml").write_text(text, encoding="utf-8")
        for number, step in enumerate(clinc150(0, chosen.texts)[: chosen.updates], start=1):
            run(root, "ingest", write(Path(folder) / f"{number}.jsonl", step.train))
            held = write(Path(folder) / f"{number}-test.jsonl", step.test[::3])
            run(root, "ingest", "--held-out", held)
            result = run(root, "update", accept=(0, 3))
            if result["outcome"] == "refused":
                run(root, "promote", str(result["version"]), "--force", "--reason", "benchmark")
            forecast, seconds = result["forecast"], result["seconds"]
            if not forecast["is_timed"]:
                continue  # the first one says that it knows nothing yet
            said = f"{forecast['seconds']:.0f} s ({forecast['low']:.0f} to {forecast['high']:.0f})"
            append_row(
                "forecast",
                {
                    "measure": f"error of the forecast of update {number}",
                    "value": round(100 * (forecast["seconds"] / seconds - 1)),
                    "unit": "%",
                    "beside": f"forecast {said}, took {seconds:.0f} s; {len(step.train)} new texts"
                    + ("; other work shared the machine" if chosen.loaded else ""),
                },
            )


if __name__ == "__main__":
    main()
