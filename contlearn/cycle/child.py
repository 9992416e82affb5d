"""The child of a cycle: train, export, score, judge. `python -m contlearn.training FOLDER`.

Each stage reads what the one before left in the cycle's folder and leaves a marker, so that a
killed child is simply started again. Standard output carries one JSON object a line: progress,
and why it failed.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.catalog.belonging import open_catalog
from contlearn.catalog.records import experience_records
from contlearn.config import Config, load_config
from contlearn.config.handover import plugins_taken_over, taken_over
from contlearn.cycle.doubting import PROVED, doubts_of_cycle, read_proof, spread_rows
from contlearn.cycle.job import STAGES, CycleFolder, Job
from contlearn.cycle.stages import CycleResult, Decided, Evaluated, Exported, Trained
from contlearn.deferred import uncollected
from contlearn.errors import ContlearnError, TrainingError
from contlearn.interfaces import GateEvidence, Progress, Task
from contlearn.papers.decision import DECISION, read_decision
from contlearn.papers.manifest import MANIFEST, VersionFacts, read_manifest
from contlearn.papers.report import read_report
from contlearn.plugins.manager import PluginManager
from contlearn.processes.answering import answer_parent, tell_progress
from contlearn.redaction import redact, redact_config, restore_secrets
from contlearn.training import interruption
from contlearn.types import Anchor, Experience, HeldOutSet, LabelledRecord, LabelSpace
from contlearn.version import __version__
from contlearn.workspace import (
    Workspace,
    file_lock,
    read_json,
    storage_border,
    write_bytes_atomic,
    write_json_atomic,
)

if TYPE_CHECKING:
    from contlearn.evaluation.anchors import BestAnswers
    from contlearn.inference.predictor import OnnxPredictor

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the cycle in the folder named; 0 when done, else the error's exit code."""
    folder = CycleFolder(Path((sys.argv[1:] if arguments is None else arguments)[0]))

    def work() -> None:
        interruption.install()
        # The child of a killed parent may still be on its last breath.
        with (
            file_lock(folder.lock, what="working on this cycle", wait_seconds=20.0),
            storage_border("write the files of the cycle", folder.path),
        ):
            _Child(folder).run()

    return answer_parent(work, unforeseen=TrainingError)


@dataclass(frozen=True, slots=True)
class _Data:
    """The records of a cycle, read once."""

    new: tuple[LabelledRecord, ...]
    sets: tuple[HeldOutSet, ...]


def _planned(job: Job, workspace: Workspace) -> Config:
    """Give the configuration of the plan, with the secrets that are never written down.

    Where the catalog is belongs to the workspace as it is now, not to the plan.
    """
    try:
        present = taken_over(workspace.root) or load_config(workspace.root).config
    except ContlearnError:
        # Broken since, and too large to be handed over: without secrets the plan is enough.
        return Config.model_validate(job.config)
    current = present.model_dump(mode="json", exclude={"notifications"})
    planned = restore_secrets(job.config, current)
    return Config.model_validate({**planned, "storage": current["storage"]})


class _Child:
    """The stages of one cycle."""

    def __init__(self, folder: CycleFolder) -> None:
        self.folder = folder
        self.job = Job.load(folder)
        self.workspace = Workspace(folder.workspace)
        self.config = _planned(self.job, self.workspace)
        plugins_dir = plugins_taken_over(self.workspace.root)
        blocked = self.config.plugins.blocked
        self.manager = PluginManager(folder=plugins_dir, blocked=blocked, quiet=True)
        self.catalog = open_catalog(self.workspace, self.config)
        self.task: Task = self.manager.task(
            self.config.model.task, self.config.model.task_options, where="model.task"
        )
        self._last_sent = 0.0

    def run(self) -> None:
        """Do what is not done yet, stage by stage."""
        self.folder.version.mkdir(parents=True, exist_ok=True)
        with uncollected():
            import torch

        if self.config.training.threads:
            torch.set_num_threads(self.config.training.threads)
        work = (self.train, self.export, self.evaluate, self.decide)
        for stage, do in zip(STAGES, work, strict=True):
            marker = self.folder.marker(stage)
            if marker.exists():
                continue
            self.progress(stage, 0, 0, "")
            started = time.monotonic()
            facts = do()
            facts["seconds"] = round(time.monotonic() - started, 3)
            facts["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            write_json_atomic(marker, facts)
            # What is left now stays: neither the next stage nor the end looks through it again.
            gc.collect()
            gc.freeze()
        self.finish()
        gc.freeze()

    def progress(self, stage: str, done: int, total: int, message: str) -> None:
        """Send one line to the parent, at most ten a second but always the ends."""
        now = time.monotonic()
        if 0 < done < total and now - self._last_sent < 0.1:
            return
        self._last_sent = now
        tell_progress(stage, done, total, message)

    def stage_progress(self, stage: str) -> Progress:
        """Make a progress callback whose lines belong to a stage of the cycle."""

        def send(step: str, done: int, total: int, message: str) -> None:
            self.progress(stage, done, total, message or step)

        return send

    @property
    def metric(self) -> str:
        """The metric that the gate compares: `gate.metric`, or the task's own."""
        return self.config.gate.metric or self.task.primary_metric

    def champion_folder(self) -> Path | None:
        """Give the version folder of the champion this cycle started from."""
        if self.job.champion is None:
            return None
        return self.workspace.versions / str(self.job.champion)

    def champion_export(self) -> dict[str, Any]:
        """Give what the champion's export measured; empty before the first promotion."""
        champion = self.champion_folder()
        return {} if champion is None else read_manifest(champion / MANIFEST).export.to_json()

    def champion_labels(self) -> LabelSpace:
        """Give the outputs of the champion; those of the closed set, or none, at first."""
        champion = self.champion_folder()
        if champion is not None:
            return LabelSpace(read_manifest(champion / MANIFEST).model.labels)
        return self.task.space_from_labels(self.config.data.labels)

    def read(self, ids: Sequence[str]) -> tuple[LabelledRecord, ...]:
        """Read records from their segments."""
        from contlearn.data.store import read_records

        return tuple(read_records(self.workspace, self.catalog, ids))

    def ids(self, cycle_id: str, role: str) -> list[str]:
        """Give the ids of an experience's records."""
        with self.catalog.read() as connection:
            return experience_records(connection, cycle_id, role)

    def train(self) -> dict[str, Any]:
        """Fit the challenger and leave checkpoint/ and state/ in the version folder."""
        from contlearn.cycle.material import read_material
        from contlearn.training.fit import FitRequest, fit_challenger
        from contlearn.training.state import buffered_ids

        strategy = self.manager.get("strategy", self.job.strategy, where="training.strategy")
        material = read_material(
            self.workspace,
            self.catalog,
            cycle_id=self.job.cycle_id,
            lineage=self.job.lineage,
            champion=self.champion_folder(),
            reads_history=strategy.reads_history,
        )
        new = material.new
        if not new:
            raise TrainingError(
                "There is no training record left to learn.",
                where=f"cycle {self.job.cycle_id}",
                hint="All of them went to the held-out side, were corrected or were forgotten; "
                "bring more records.",
            )
        space = self.task.outputs(self.champion_labels(), [record.target for record in new])
        experience = Experience(
            index=self.job.experience,
            records=new,
            label_space=space,
            content_hash=Experience.hash_of(record.record_id for record in new),
        )
        training = self.config.training.with_strategy(self.job.strategy)
        result = fit_challenger(
            FitRequest(
                task=self.task,
                manager=self.manager,
                model=self.config.model,
                training=training,
                replay=self.config.replay,
                champion=self.champion_folder(),
                experience=experience,
                read_records=self.read,
                history=material.history,
                withdrawn=material.withdrawn,
                left_out=material.left_out,
                work=self.folder.work,
                output=self.folder.version,
                unlabelled=self.workspace.root / self.config.data.unlabelled,
            ),
            progress=self.stage_progress("training"),
        )
        counts = Counter(name for record in new for name in set(self.task.labels_of(record.target)))
        return {
            "label_counts": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
            "labels": list(result.label_space.names),
            "strategy": result.strategy,
            "options": redact_config({"strategy_options": result.options})["strategy_options"],
            "steps": result.steps,
            "seed": result.seed,
            **result.calibration.to_json(),
            "trained_share": result.trained_share,
            "notes": dict(result.notes),
            "records_new": len(new),
            "data_hash": experience.content_hash,
            "buffer_records": len(buffered_ids(self.folder.version / "state")),
            "buffer_capacity": self.config.replay.capacity_records,
        }

    def export(self) -> dict[str, Any]:
        """Write onnx/ and check it against the checkpoint: no parity, no version."""
        from contlearn.export.onnx import export_model
        from contlearn.export.samples import MOST_SAMPLES, spread
        from contlearn.training.state import buffered_ids

        data = self.data()
        onnx = self.folder.version / "onnx"
        if onnx.exists():
            shutil.rmtree(onnx)
        held_out = spread([some.records for some in data.sets], MOST_SAMPLES)
        samples = [record.inputs for record in held_out]
        calibration: tuple[LabelledRecord, ...] = ()
        if self.config.export.precision == "int8-static":
            ids = buffered_ids(self.folder.version / "state")
            calibration = self.read(ids) or data.new
        report = export_model(
            self.folder.version / "checkpoint",
            onnx,
            task=self.task,
            samples=samples or [record.inputs for record in data.new[:100]],
            options=self.config.export,
            max_tokens=self.config.model.max_tokens,
            temperature=Trained.load(self.folder).calibration.temperature,
            calibration=[record.inputs for record in calibration],
            progress=self.stage_progress("exporting"),
        )
        return report.to_json()

    def data(self) -> _Data:
        """Read the new records and every held-out set of the lineage, the new one last."""
        from contlearn.cycle.held_out import read_held_out

        sets = read_held_out(
            self.workspace,
            self.catalog,
            (*self.job.lineage, self.job.cycle_id),
            capacity=self.config.gate.reserve_rows,
            new=self.job.cycle_id,
        )
        return _Data(self.read(self.ids(self.job.cycle_id, "train")), sets)

    def challenger(self) -> OnnxPredictor:
        """Load the exported challenger as a server would."""
        from contlearn.inference.predictor import OnnxPredictor

        trained = Trained.load(self.folder)
        return OnnxPredictor(
            self.folder.version / "onnx",
            task=self.task,
            label_space=LabelSpace(trained.labels),
            max_tokens=self.config.model.max_tokens,
            calibration=trained.calibration,
            pad_id=Exported.load(self.folder).pad_id,
        )

    def served(self, version: Path) -> OnnxPredictor:
        """Load a version of the registry as a server would."""
        from contlearn.inference.predictor import OnnxPredictor

        return OnnxPredictor.load(version / "onnx", manager=self.manager)

    def anchor(self) -> Anchor | None:
        """Give the best proven version of the lineage; the champion where nothing else is known."""
        if self.job.champion is None:
            return None
        if self.job.anchor is None:  # planned by an earlier contlearn
            return Anchor(version=self.job.champion)
        return Anchor.from_json(self.job.anchor)

    def best_answers(self) -> BestAnswers | None:
        """Give what the best proven version answers, where that is not the champion."""
        from contlearn.evaluation.anchors import BestAnswers, known_best

        anchor, champion = self.anchor(), self.champion_folder()
        if anchor is None or champion is None or anchor.version == self.job.champion:
            return None
        folder = self.workspace.versions / str(anchor.version)
        learnt: tuple[str, ...] = ()
        with contextlib.suppress(ContlearnError):
            learnt = read_manifest(folder / MANIFEST).lineage.experiences
        return BestAnswers(known_best(champion), frozenset(learnt), partial(self.served, folder))

    def evaluate(self) -> dict[str, Any]:
        """Score challenger and champion on every held-out set; write report.json."""
        from contlearn.cycle.held_out import corrected_sets
        from contlearn.data.label_quality import judge_cycle
        from contlearn.evaluation.runtime import RUNTIME, measure_runtime
        from contlearn.evaluation.scoring import evaluate_cycle
        from contlearn.training.crossed import cross_validated

        champion = self.champion_folder()
        predictor = None if champion is None else self.served(champion)
        best = self.best_answers()
        data, challenger = self.data(), self.challenger()
        self.progress("evaluating", 0, 0, "timing")
        runtime = measure_runtime(self.task, data.sets, challenger, predictor)
        write_json_atomic(self.folder.version / RUNTIME, runtime)
        report = evaluate_cycle(
            task=self.task,
            sets=data.sets,
            challenger=challenger,
            champion=predictor,
            champion_version=self.job.champion,
            champion_folder=champion,
            memory=self.workspace.evaluations,
            output=self.folder.version,
            progress=self.stage_progress("evaluating"),
            metric=self.metric,
            runtime=runtime,
            corrected=corrected_sets(self.catalog, champion) if champion else frozenset(),
            best=best,
            text_slices=self.config.monitoring.slices,
        )
        measured = [record for one in data.sets if one.is_new for record in one.records]
        crossed = partial(
            cross_validated,
            task=self.task,
            checkpoint=self.folder.version / "checkpoint",
            max_tokens=self.config.model.max_tokens,
        )
        suspects: dict[str, Any] = {}
        if "probabilities" in self.task.gives:
            proof = None
            if champion is not None and predictor is not None:
                old = [one for one in data.sets if not one.is_new]
                proof = read_proof(champion, self.task, predictor, lambda: old)
            suspects = judge_cycle(
                self.task,
                data.new,
                measured,
                before=predictor,
                after=challenger,
                proof=proof,
                cross_validate=crossed,
            )
        unknown = 0 if best is None else best.unknown
        return {"metrics": report, "suspects": suspects, "anchor_unknown": unknown}

    def decide(self) -> dict[str, Any]:
        """Let every gate rule judge; write decision.json and the papers of the version."""
        from contlearn.evaluation.erosion import judge_anchor
        from contlearn.evaluation.gate import decide
        from contlearn.evaluation.runtime import read_runtime
        from contlearn.evaluation.scoring import load_paired_scores

        paired, labels = load_paired_scores(self.folder.version, self.task)
        evidence = GateEvidence(
            task=self.task,
            labels=labels,
            sets=paired,
            metric=self.metric,
            config=self.config.gate,
            seed=self.config.training.seed,
            parity=Exported.load(self.folder).to_json(),
            champion_parity=self.champion_export(),
            runtime=read_runtime(self.folder.version),
            anchor=self.anchor(),
        )
        decision = decide(evidence, self.manager, champion=self.job.champion)
        value = decision.to_json()
        write_json_atomic(self.folder.version / DECISION, value)
        return {"decision": value, "anchor": judge_anchor(evidence, decision)}

    def write_page_with_texts(self, name: str, facts: VersionFacts) -> None:
        """Write the report that people read; it is no part of the version."""
        from contlearn.pages.report import VERSION_MARK, render_report, shown_records
        from contlearn.pages.version_page import shown

        report = read_report(self.folder.version)
        page = render_report(
            name=name,
            task=self.task,
            facts=facts,
            report=report,
            decision=read_decision(self.folder.version),
            records=shown(self.read(shown_records(report)), self.task),
            version=VERSION_MARK,
        )
        write_bytes_atomic(self.folder.page, page.encode(), mode=self.workspace.text_mode())

    def unknown_rule(self, challenger: OnnxPredictor) -> dict[str, Any] | None:
        """Calibrate on held-out texts how the server tells what the model was never taught.

        The same answers say how sure it is of each label, for those who doubt labels later.
        """
        from contlearn.data.label_quality import opinions_of, prove
        from contlearn.inference.familiarity import SCORE, calibrate

        if "probabilities" not in self.task.gives:
            return None
        rows = spread_rows(self.data().sets)
        answers = challenger.predict_detailed([record.inputs for record in rows])
        logits = [answer.logits for answer in answers]
        opinions = opinions_of(rows, logits, challenger.temperature)
        proof = prove(self.task, challenger.label_space.names, opinions)
        write_json_atomic(self.folder.version / PROVED, proof.to_json())
        if "energy" not in self.task.gives:
            return None
        return calibrate(logits, SCORE, challenger.temperature)

    def finish(self) -> None:
        """Gather what the parent needs to register and decide."""
        from contlearn.evaluation.model_card import write_model_card
        from contlearn.inference.golden import write_golden
        from contlearn.pages.report import write_report_page

        trained, exported = Trained.load(self.folder), Exported.load(self.folder)
        evaluated, decided = Evaluated.load(self.folder), Decided.load(self.folder)
        done = (trained, exported, evaluated, decided)
        inside = read_json(self.folder.version / "checkpoint" / "checkpoint.json")
        options = self.config.model.task_options
        model = {
            "task": self.config.model.task,
            "labels": list(trained.labels),
            "max_tokens": self.config.model.max_tokens,
            **trained.calibration.to_json(),
            "precision": exported.precision,
            "processor": list(exported.processor),
            # What is truly inside, which the configuration may no longer name.
            "base": redact(inside["base"]),
            "base_sha256": inside.get("base_sha256"),
            "pooling": inside["pooling"],
            "pad_id": exported.pad_id,
            "pipeline": self.task.pipeline,
            **({"task_options": options} if options else {}),
        }
        warnings = (*trained.warnings, *exported.warnings)
        if rows := evaluated.anchor_unknown:
            said = f"What the best proven version answers on {rows} old held-out rows is not known"
            warnings += (f"{said}; the champion's answers stand for it.",)
        numbers = {
            "seconds": {one.stage: one.seconds for one in done},
            "records_new": trained.records_new,
            "steps": trained.steps,
            "fit": trained.fit,  # what the next forecast learns from
            "trained_share": trained.trained_share,
            "search": trained.search,
            "warnings": warnings,
            **({"anchor": decided.anchor} if decided.anchor else {}),
            "suspects": evaluated.suspects,
            "peak_bytes": max(one.peak_bytes for one in done),
        }
        challenger = self.challenger()
        unknown = self.unknown_rule(challenger)
        if unknown is not None:
            model["unknown"] = unknown
        facts = {
            "model": model,
            "golden": write_golden(challenger),
            "lineage": {
                "parent": self.job.champion,
                "cycle": self.job.cycle_id,
                "experiences": [*self.job.lineage, self.job.cycle_id],
                "data_hash": trained.data_hash
                or Experience.hash_of(self.ids(self.job.cycle_id, "train")),
                "records": trained.records_new,
                "strategy": trained.strategy,
                "strategy_options": trained.options,
                # The settings that won the search, where there was one.
                "search": (trained.search or {}).get("settings"),
                "seed": trained.seed,
                "config": self.job.config,
                "environment": _environment(),
                **_anchor_facts(self.anchor(), decided.anchor),
            },
            "training": trained.to_json(),
            "export": exported.to_json(),
            "metrics": evaluated.metrics,
            "doubted": doubts_of_cycle(numbers),
        }
        name = self.config.model.name
        read = VersionFacts.from_json(facts)
        write_model_card(self.folder.version, name=name, facts=read)
        write_report_page(self.folder.version, name=name, task=self.task, facts=read)
        self.write_page_with_texts(name, read)
        CycleResult(facts=read, decision=decided.decision, numbers=numbers).save(self.folder)
        self.progress("deciding", 1, 1, "")


def _anchor_facts(anchor: Anchor | None, comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    """Say which version is the best proven one once the challenger is champion."""
    if anchor is None or (comparison is not None and comparison["proves_gain"]):
        return {"anchor": None}
    return {"anchor": anchor.version, "against_anchor": comparison}


def _environment() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"contlearn": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "avalanche-lib", "optimum-onnx", "onnxruntime", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
