"""A trainer that trains nothing: `python -m tests.scripted_child FOLDER`.

It stands where months of real training would be too long. It is a real process with the real
protocol (job, progress, markers, result, version folder), and the labels of its records say what
happens: "crash" ends it, "hog" takes too much memory, "hang" stands still, "bad" is
refused by the gate, "meh" alone is not worth the change, anything else is promoted. Standard library only, so that it starts quickly.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path


def main(folder: Path) -> int:
    # As the real child does: it must not outlive a daemon that is killed, least of all a "hog".
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(os.environ["CONTLEARN_PARENT_PID"]):
        return 1
    job = json.loads((folder / "job.json").read_bytes())
    root = folder.absolute().parents[2]
    with sqlite3.connect(f"file:{root}/state/catalog.sqlite?mode=ro", uri=True) as catalog:
        rows = catalog.execute(
            "select r.record_id, r.key from cycle_records c join records r using (record_id) "
            "where c.cycle_id = ? and c.role = 'train'",
            (job["cycle_id"],),
        ).fetchall()
    keys = {key for _, key in rows}
    for done, stage in enumerate(("training", "exporting", "evaluating", "deciding")):
        print(json.dumps({"stage": stage, "done": done, "total": 4}), flush=True)
        time.sleep(float(os.environ.get("SCRIPTED_SECONDS", "0")) / 4)
    if "crash" in keys:
        print('{"kind": "TrainingError", "error": "a record cannot be learnt"}', flush=True)
        return 1
    if "hog" in keys:
        blocks = [os.urandom(5_000_000) for _ in range(40)]  # three times what is allowed
        time.sleep(60)
        return len(blocks)
    while "hang" in keys:
        time.sleep(1)
    version = folder / "version"
    shutil.rmtree(version, ignore_errors=True)
    (version / "onnx").mkdir(parents=True)
    (version / "checkpoint").mkdir()
    ids = sorted(record for record, _ in rows)
    (version / "onnx" / "model.onnx").write_bytes(f"{job['cycle_id']} {ids}".encode())
    (version / "onnx" / "tokenizer.json").write_text("{}")
    (version / "checkpoint" / "head.safetensors").write_bytes(b"head" * 50)
    if os.environ.get("SCRIPTED_PAGE"):  # made before its number is known, as the real one is
        head = "<title>test, version @VERSION@</title><h1>test, version @VERSION@</h1>"
        (version / "report.html").write_text(head)
    keeps = keys == {"meh"}
    passed = "bad" not in keys and not keeps
    decision = {
        "promoted": passed,
        "outcomes": [
            {
                "rule": "gain",
                "passed": passed,
                "measured": 0.9 if passed else 0.1,
                "required": 0.5,
                "message": "better than before" if passed else "no better than guesses",
                **({"keeps": True, "message": "It changes next to nothing."} if keeps else {}),
            }
        ],
    }
    (version / "decision.json").write_text(json.dumps(decision))
    champion = job["champion"]
    labels: list[str] = []
    if champion is not None:
        manifest = json.loads((root / "versions" / str(champion) / "manifest.json").read_bytes())
        labels = manifest["model"]["labels"]
    labels += sorted(keys - set(labels))
    facts = {
        "model": {"task": "text-classification", "labels": labels, "max_tokens": 32, "temperature": 1.0,
                  "precision": "fp32", "processor": [], "base": job["config"]["model"]["base"],
                  "pooling": "mean"},
        "lineage": {"parent": champion, "cycle": job["cycle_id"], "strategy": "replay",
                    "experiences": [*job["lineage"], job["cycle_id"]], "records": len(rows),
                    "config": job["config"]},
        "metrics": {"accuracy": 0.9, "average_accuracy": 0.9, "forgetting": 0.0},
        "export": {"label_agreement": 1.0, "size_bytes": 10},
        "golden": {"graph": {"inputs": ["input_ids", "attention_mask"],
                             "outputs": {"logits": [None, len(labels)], "projection": [None, 32]}}},
    }  # fmt: skip
    temporary = folder / "result.tmp"
    temporary.write_text(json.dumps({"facts": facts, "decision": decision, "numbers": {}}))
    temporary.replace(folder / "result.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
