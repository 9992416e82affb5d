"""Evidently and NannyML on the very windows that our detectors judge.

    python -m tests.benchmarks.drift_peers write                       # our environment
    pip install evidently==0.7.23 "pandas<3" "numpy<2.4"               # in an environment of its own
    python drift_peers.py evidently DIR [WINDOWS]     # so many of each group: a look takes seconds
    pip install nannyml==0.13.1 "pandas<3" "numpy<2" "scipy<1.15" statsmodels
    NML_DISABLE_USAGE_LOGGING=1 python drift_peers.py nannyml DIR      # in one of its own
    python -m tests.benchmarks.drift_peers read                        # our environment

Neither can be imported with today's pandas 3, which their own metadata allow; so each runs in an
environment of its own (the extra pins are what it took) and gets columns of numbers:
what the prediction log holds. `write` also judges the windows with our detectors. Every tool runs
with its defaults: Evidently's DataDriftPreset, NannyML's univariate thresholds, its PCA
reconstruction error, and its CBPE for the accuracy.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

CALM_REFERENCES = 10
CALM_WINDOWS = 10
ROUNDS = 10
NUMBERS = ("characters", "unknown_ratio", "confidence", "energy", "fragmentation")
CASES = (
    "intents → 20 % out of scope",
    "intents → typos in one word of five",
    "intents: 30 of 150 three times as common",
    "movie reviews → tweets",
    "movie reviews → 20 % tweets",
    "news → 20 % restaurant reviews",
    "product → 20 % restaurant reviews",
)


def write() -> None:
    import numpy as np

    from contlearn.monitoring.accuracy import estimate_accuracy
    from contlearn.monitoring.drift_check import DriftCheck
    from tests.benchmarks import encoded
    from tests.benchmarks.drift_cases import REFERENCE, cases, references, sources

    folder = encoded.WORK / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(23)
    groups = []
    for name, model, reference, rest in references(CALM_REFERENCES, seed=41):
        windows = [
            rest.rows(generator.choice(len(rest), 300, replace=False)) for _ in range(CALM_WINDOWS)
        ]
        groups.append(("calm", name, model, reference, windows))
    for case in cases():
        if case.name in CASES:
            model, pool = sources()[case.source]
            order = generator.permutation(len(pool))
            rest = pool.rows(order[REFERENCE:])
            windows = [case.window(rest, generator) for _ in range(ROUNDS)]
            groups.append((case.name, case.source, model, pool.rows(order[:REFERENCE]), windows))
    index = []
    for number, (kind, source, model, reference, windows) in enumerate(groups):
        check = DriftCheck(reference.sample, seed=number)
        ours, accuracy = [], []
        begun = time.process_time()
        for window in windows:
            report = check.judge(window.sample)
            ours.append(report.detected)
            estimate = estimate_accuracy(
                window.sample.numbers["confidence"], model.calibration, detected=report.detected
            )
            accuracy.append((estimate.value, float(window.right.mean())))
        seconds = (time.process_time() - begun) / len(windows)
        parts = [reference, *windows]
        columns = {
            name: np.concatenate([part.sample.numbers[name] for part in parts]) for name in NUMBERS
        }
        columns |= {
            f"p{place:02d}": np.concatenate([part.sample.projections[:, place] for part in parts])
            for place in range(32)
        }
        np.savez(
            folder / f"group-{number}.npz",
            **columns,
            label=np.array([label for part in parts for label in part.sample.labels]),
            language=np.array([item for part in parts for item in part.sample.languages]),
            truth=np.array([label for part in parts for label in part.truth]),
            probabilities=np.concatenate([part.probabilities for part in parts]),
            names=np.array(model.names),
        )
        index.append(
            {
                "kind": kind, "source": source, "file": f"group-{number}.npz", "ours": ours,
                "accuracy": accuracy, "reference": len(reference), "windows": len(windows),
                "seconds": seconds, "labels": len(model.names),
            }
        )  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index))
    print(folder)


def frames(folder: Path):
    """Yield a group, its reference and its windows as pandas frames; needs no contlearn."""
    import numpy as np
    import pandas as pd

    for group in json.loads((folder / "index.json").read_text()):
        stored = np.load(folder / group["file"])
        names = [*NUMBERS, *(f"p{place:02d}" for place in range(32)), "label", "language"]
        frame = pd.DataFrame({name: stored[name] for name in names})
        count = group["reference"]
        size = (len(frame) - count) // group["windows"]
        windows = [
            frame.iloc[count + i * size : count + (i + 1) * size].reset_index(drop=True)
            for i in range(group["windows"])
        ]
        yield group, stored, frame.iloc[:count].reset_index(drop=True), windows


def evidently(folder: Path, most: int = 1_000) -> None:
    import importlib.metadata
    import warnings

    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    warnings.simplefilter("ignore")
    results = []
    for group, _, reference, windows in frames(folder):
        numeric = [name for name in reference.columns if name not in ("label", "language")]
        definition = DataDefinition(
            numerical_columns=numeric, categorical_columns=["label", "language"]
        )
        before = Dataset.from_pandas(reference, data_definition=definition)
        share, any_column, seconds = [], [], []
        for window in windows[:most]:
            begun = time.process_time()
            now = Dataset.from_pandas(window, data_definition=definition)
            value = Report([DataDriftPreset()]).run(now, before).dict()
            seconds.append(time.process_time() - begun)
            drifted = value["metrics"][0]["value"]
            share.append(bool(drifted["share"] >= 0.5))
            any_column.append(bool(drifted["count"] > 0))
        results.append(
            {
                "kind": group["kind"], "dataset": share, "any": any_column,
                "seconds": sum(seconds) / len(seconds),
            }
        )  # fmt: skip
        print(group["kind"], sum(share), sum(any_column), len(share), flush=True)
        version = importlib.metadata.version("evidently")
        value = json.dumps({"version": version, "groups": results})
        (folder / "evidently.json").write_text(value)


def nannyml(folder: Path) -> None:
    import importlib.metadata
    import warnings

    import nannyml as nml
    import pandas as pd

    warnings.simplefilter("ignore")
    results = []
    for group, stored, reference, windows in frames(folder):
        begun = time.process_time()
        numeric = [name for name in reference.columns if name not in ("label", "language")]
        later = pd.concat(windows, ignore_index=True)
        # Chunks as large as the windows, also of the reference, whose spread sets the thresholds.
        size = len(windows[0])
        univariate = nml.UnivariateDriftCalculator(
            column_names=[*numeric, "label", "language"],
            treat_as_categorical=["label", "language"],
            chunk_size=size,
        )
        found = univariate.fit(reference).calculate(later)
        frame = found.filter(period="analysis").to_df()
        alerts = frame.loc[:, [c for c in frame.columns if c[-1] == "alert"]]
        several = nml.DataReconstructionDriftCalculator(column_names=numeric, chunk_size=size)
        rebuilt = several.fit(reference).calculate(later).filter(period="analysis").to_df()
        rebuilt_alerts = rebuilt.loc[:, [c for c in rebuilt.columns if c[-1] == "alert"]]
        seconds = (time.process_time() - begun) / len(windows)
        estimate = _cbpe(nml, group, stored, size) if group["labels"] <= 10 else None
        results.append(
            {
                "kind": group["kind"],
                "any": alerts.any(axis=1).tolist(),
                "reconstruction": rebuilt_alerts.any(axis=1).tolist(),
                "seconds": seconds,
                "accuracy": estimate,
            }
        )
        print(group["kind"], alerts.any(axis=1).sum(), rebuilt_alerts.any(axis=1).sum(), flush=True)
    version = importlib.metadata.version("nannyml")
    (folder / "nannyml.json").write_text(json.dumps({"version": version, "groups": results}))


def _cbpe(nml, group, stored, size):
    """Estimate the accuracy with CBPE; fails politely, because that is a result too."""
    import pandas as pd

    names = [str(name) for name in stored["names"]]
    columns = {f"proba_{name}": stored["probabilities"][:, i] for i, name in enumerate(names)}
    frame = pd.DataFrame({**columns, "y_pred": stored["label"], "y_true": stored["truth"]})
    count = group["reference"]
    kind = "classification_multiclass" if len(names) > 2 else "classification_binary"
    try:
        cbpe = nml.CBPE(
            problem_type=kind,
            y_pred_proba={name: f"proba_{name}" for name in names},
            y_pred="y_pred",
            y_true="y_true",
            metrics=["accuracy"],
            chunk_size=size,
        )
        cbpe.fit(frame.iloc[:count])
        later = frame.iloc[count:].reset_index(drop=True).drop(columns=["y_true"])
        result = cbpe.estimate(later).filter(period="analysis").to_df()
        return result[("accuracy", "value")].tolist()
    except Exception as error:
        print("CBPE:", type(error).__name__, error)
        return None


def read() -> None:
    import numpy as np

    from tests.benchmarks import encoded
    from tests.benchmarks.common import append_row

    folder = encoded.WORK / "peers"
    index = json.loads((folder / "index.json").read_text())
    theirs = {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("evidently", "nannyml")
    }
    kinds = list(dict.fromkeys(group["kind"] for group in index))

    def share(groups, field, kind):
        values = [v for g in groups if g["kind"] == kind for v in g[field]]
        return f"{round(100 * float(np.mean(values)), 1)} % of {len(values)}" if values else "–"

    evident, nanny = theirs["evidently"]["groups"], theirs["nannyml"]["groups"]
    for kind in kinds:
        calm = kind == "calm"
        count = sum(g["windows"] for g in index if g["kind"] == kind)
        append_row(
            "drift",
            {
                "measure": "same windows, false alarms" if calm else f"same windows, found: {kind}",
                "value": float(share(index, "ours", kind).partition(" ")[0]),
                "unit": "% of windows",
                "beside": f"{count} windows of 300, reference of 1,000; "
                f"Evidently {theirs['evidently']['version']}: dataset drift "
                f"{share(evident, 'dataset', kind)}, any column {share(evident, 'any', kind)}; "
                f"NannyML {theirs['nannyml']['version']}: reconstruction error "
                f"{share(nanny, 'reconstruction', kind)}, any column {share(nanny, 'any', kind)}",
            },
        )
    ours, cbpe, plain = [], [], 0
    for group, peer in zip(index, nanny, strict=True):
        if peer["accuracy"] is None:
            plain += 1
            continue
        for (estimate, measured), other in zip(group["accuracy"], peer["accuracy"], strict=True):
            ours.append(abs(estimate - measured))
            cbpe.append(abs(other - measured))
    if ours:
        append_row(
            "drift",
            {
                "measure": "same windows, accuracy without labels",
                "value": round(100 * float(np.mean(ours)), 2),
                "unit": "points of error",
                "beside": f"{len(ours)} windows of models with at most 10 labels; NannyML's CBPE, "
                f"fitted on the labelled reference: {100 * float(np.mean(cbpe)):.2f}",
            },
        )
    append_row(
        "drift",
        {
            "measure": "same windows, one look",
            "value": round(1e3 * float(np.mean([g["seconds"] for g in index])), 1),
            "unit": "CPU ms",
            "beside": f"Evidently {1e3 * np.mean([g['seconds'] for g in evident]):.0f}, NannyML "
            f"{1e3 * np.mean([g['seconds'] for g in nanny]):.0f} (univariate and reconstruction)",
        },
    )


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what in ("evidently", "nannyml"):
        more = [int(argument) for argument in sys.argv[3:]]
        {"evidently": evidently, "nannyml": nannyml}[what](Path(sys.argv[2]), *more)
    elif what in ("write", "read"):
        {"write": write, "read": read}[what]()
    else:
        sys.exit(__doc__)
