"""A workspace whose server has answered: a registered version, a prediction log, labels that came."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from contlearn.context import Context
from contlearn.monitoring.feedback_log import FeedbackLog
from contlearn.monitoring.prediction_log import LoggedPrediction, PredictionLog
from contlearn.papers.scores import pack_targets
from contlearn.testing import FakeClock
from contlearn.workspace import write_json_atomic
from tests.served import LABELS, make_workspace
from tests.unit.registry.staged import facts, stage

START = datetime(2030, 3, 17, 12, tzinfo=UTC)
TEXTS = {
    "billing": "please pay the invoice of this month",
    "shipping": "where is the parcel that I ordered",
    "returns": "I want to send back the shoes",
    "account": "my password does not work",
}


def logged_workspace(root: Path, *, held_out: int = 600, extra: str = "") -> Context:
    """Make a workspace with version 1: right about as often as it is sure."""
    workspace = make_workspace(
        root, extra=f'feedback_token_file = ""\n[monitoring]\ndrift_reference = 500\n{extra}'
    )
    context = Context.open(workspace.root, clock=FakeClock(START + timedelta(days=1)))
    generator = np.random.default_rng(3)
    confidence = generator.beta(8, 2, held_out)
    right = generator.random(held_out) < confidence
    targets = generator.choice(LABELS, held_out).tolist()
    answers = [
        t if ok else LABELS[(LABELS.index(t) + 1) % 4] for t, ok in zip(targets, right, strict=True)
    ]
    folder = stage(workspace.root, "c1")
    scores = {
        "format_version": 1,
        "labels": list(LABELS),
        "sets": [
            {
                "experience": "c1",
                "index": 0,
                "is_new": True,
                "content_hash": "x",
                "record_ids": [f"r{place}" for place in range(held_out)],
                "targets": pack_targets(targets),
                "challenger": {
                    **pack_targets(answers),
                    "confidences": [round(float(c), 4) for c in confidence],
                },
                "champion": None,
            }
        ],
    }
    write_json_atomic(folder / "scores.json", scores)
    value = facts()
    rule = {"score": "energy", "threshold": 0.0, "rate": 0.05, "rows": held_out}
    value["model"] = {**value["model"], "labels": list(LABELS), "unknown": rule}
    value["lineage"] = {**value["lineage"], "strategy": "replay"}
    value["export"] = {"label_agreement": 0.998}
    context.registry.register(folder, cycle_id="c1", parent=None, facts=value)
    return context


def log_answers(
    context: Context,
    count: int,
    *,
    seed: int,
    minutes: float = 0.0,
    weights=(0.25, 0.25, 0.25, 0.25),
    shift: float = 0.0,
    sure=(8, 2),
    version: int = 1,
    texts: bool = False,
    labels: float = 0.0,
    wrong: float | None = None,
    unknown: float | None = None,
) -> None:
    """Log answers a second apart from START + minutes on; labels come back for a share of them."""
    generator = np.random.default_rng(seed)
    log = PredictionLog(
        context.workspace.predictions, FakeClock(START + timedelta(minutes=minutes)),
        queue_records=100_000, max_age_seconds=1e12, max_bytes=10**9,
    )  # fmt: skip
    came = []
    for number in range(count):
        label = str(generator.choice(LABELS, p=weights))
        place = LABELS.index(label)
        confidence = float(generator.beta(*sure))
        rows = generator.normal(0, 1, 32)
        rows[place] += 3
        rows[8] += shift
        text = TEXTS[label] + (" with the new app" if shift else "")
        request = f"s{seed}-{number}"
        log.add(
            LoggedPrediction(
                time=(START + timedelta(minutes=minutes, seconds=number)).timestamp(),
                request_id=request,
                index=0,
                version=version,
                labels=(label,),
                confidence=confidence,
                is_unknown=None if unknown is None else bool(number % 100 < 100 * unknown),
                characters=len(text) + int(generator.integers(0, 5)),
                tokens=9,
                unknown_ratio=0.0,
                projection=rows.tolist(),
                logits=[confidence, 0.0],
                text=text,
                keep_text=texts,
            )
        )
        if generator.random() < labels:
            is_wrong = generator.random() < (1 - confidence if wrong is None else wrong)
            came.append((request, 0, LABELS[(place + 1) % 4] if is_wrong else label))
    log.flush()
    FeedbackLog(context.workspace.state / "feedback").add(came, START + timedelta(days=1))


def signals_of(context: Context) -> dict:
    """Read the signals as another program would."""
    return json.loads((context.workspace.state / "monitoring" / "signals.json").read_bytes())
