"""How many texts of intents a model was never taught come back flagged as unknown.

    python -m tests.benchmarks.unknown VERSION_FOLDER

The folder is a version of the registry (or `export`ed) that learnt intents of CLINC150; the data is
found by CONTLEARN_DATA. Calibrated on the development rows of the intents it knows, judged on test
rows: known intents, the corpus's own out-of-scope rows, and intents that were not taught yet.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from contlearn.inference.familiarity import calibrate, familiarity
from contlearn.inference.predictor import OnnxPredictor
from tests.benchmarks.common import append_row
from tests.served import Tasks

DATA = Path(os.environ.get("CONTLEARN_DATA", "data")) / "intent" / "clinc150"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Give the chance that a known text scores above an unknown one."""
    ranks = np.argsort(np.argsort(np.concatenate([higher, lower]))) + 1
    count = len(higher)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(lower)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", type=Path)
    folder = parser.parse_args().version
    predictor = OnnxPredictor.load(folder / "onnx", manager=Tasks(), verify=False)
    names, test = set(predictor.label_space.names), rows("test.jsonl")
    kinds = {
        "known": [row for row in test if row["label"] in names],
        "out of scope": [row for row in test if row["label"] == "oos"],
        "not taught": [row for row in test if row["label"] not in names | {"oos"}],
        "calibration": [row for row in rows("dev.jsonl") if row["label"] in names],
    }
    logits = {
        kind: np.stack([a.logits for a in predictor.predict_detailed(chosen)])
        for kind, chosen in kinds.items()
    }
    for score in ("energy", "probability"):
        rule = calibrate(list(logits["calibration"]), score, predictor.temperature)
        values = {k: familiarity(v, score, predictor.temperature) for k, v in logits.items()}
        flagged = {k: float((v < rule["threshold"]).mean()) for k, v in values.items()}
        append_row(
            "serving",
            {
                "measure": f"out-of-scope texts flagged as unknown, {score}",
                "value": round(100 * flagged["out of scope"], 1),
                "unit": "%",
                "beside": f"CLINC150, {len(names)} intents taught, {predictor.precision}; known texts "
                f"flagged {100 * flagged['known']:.1f} % (calibrated for 5); texts of intents not "
                f"taught yet {100 * flagged['not taught']:.1f} %; AUROC "
                f"{auroc(values['known'], values['out of scope']):.3f} against out-of-scope rows"
                + ("; the default" if score == "energy" else ""),
            },
        )


if __name__ == "__main__":
    main()
