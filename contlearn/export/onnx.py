"""Export a checkpoint: fused, in 8 bits where that is right and faster, and proven equal.

Whatever a fine-tuning method adds to the encoder is merged by `load_checkpoint` or traced with it;
nothing here knows of methods.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contlearn.config import ExportConfig
from contlearn.errors import ExportError
from contlearn.inference.manifest import FALLBACK_FILE, MODEL_FILE
from contlearn.inference.processor import processor_features
from contlearn.interfaces import Progress, Task
from contlearn.types import ExportReport, Inputs
from contlearn.workspace import storage_border, write_json_atomic

if TYPE_CHECKING:
    from contlearn.export.parity import Comparison, Reference

__all__ = ["NO_OPTIMUM", "export_model"]

_STEPS: Final = 5
# More texts would move static scales by little.
_CALIBRATION_ROWS: Final = 200
# Rows that optimum is asked; it runs the graph that all rows were compared with.
_OPTIMUM_ROWS: Final = 32
NO_OPTIMUM: Final = (
    "not loaded with optimum, which is not installed here or does not fit this transformers; "
    "checked with onnxruntime alone"
)


def export_model(
    checkpoint: Path,
    folder: Path,
    *,
    task: Task,
    samples: Sequence[Inputs],
    options: ExportConfig,
    max_tokens: int,
    temperature: float = 1.0,
    calibration: Sequence[Inputs] = (),
    precision: str | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the folder that is served, and check it against its source; no parity, no folder.

    The folder holds one model.onnx, config.json and the tokenizer, and loads with optimum's
    ORTModelFor….from_pretrained: where optimum-onnx is installed it loads the folder and must
    answer as the graph does; where it is not, the report's notes say so. An int8 model has its
    fp32 twin beside it (`FALLBACK_FILE`), for processors on which 8-bit products saturate.

    Args:
        checkpoint: What `save_checkpoint` wrote.
        folder: Made here, by one rename at the end; it must not be there.
        task: What the model answers.
        samples: Inputs to compare on, as they are served; some of unusual lengths are added.
        options: Precision and tolerances.
        max_tokens: Longer inputs are cut.
        temperature: Written into config.json for people who load the folder without contlearn.
        calibration: Inputs that static int8 takes its scales from, as a rule the replay buffer.
        precision: Another one than that of the options; also "fp16", for graphics processors.
        progress: Called at each step.
    Raises:
        ExportError: When the graph differs from its source, or cannot be made.
    """
    from contlearn.export.choice import choose_precision
    from contlearn.export.graph import export_graph, fuse_graph
    from contlearn.export.parity import (
        compare,
        make_feeds,
        make_reference,
        open_session,
        probe_inputs,
    )
    from contlearn.modeling.checkpoint import load_checkpoint, position_limit

    report: Progress = progress or (lambda _stage, _done, _total, _message: None)
    with storage_border("export the model", folder), _staging(folder) as staged:
        plain, fused_folder = staged / "plain", staged / "fused"
        report("exporting", 0, _STEPS, "tracing the graph")
        source = load_checkpoint(checkpoint, attention="eager")
        limit, pad_id = position_limit(source.model.encoder), source.pad_id
        if limit is not None and max_tokens > limit:
            raise ExportError(
                f"Inputs of {max_tokens} pieces are allowed, but the encoder has places for "
                f"{limit}.",
                where="model.max_tokens",
                hint=f"Set it to {limit} or less.",
            )
        export_graph(source, plain)
        report("exporting", 1, _STEPS, "fusing operators")
        best, notes = fused_folder, list[str]()
        try:
            fused = fuse_graph(plain, fused_folder)
        except OSError:
            raise  # a full disk
        except Exception as error:  # onnxruntime's optimiser: unfused the graph is as right
            notes.append(f"fusion was left out: onnxruntime's optimiser failed ({error!r})")
            fused, best = {}, plain
        report("exporting", 2, _STEPS, "comparing with the checkpoint")
        texts = make_reference(source, _mixed(samples), task=task, max_tokens=max_tokens)
        probes = make_reference(source, probe_inputs(task), task=task, max_tokens=max_tokens)
        reference = texts.with_more(probes)
        tolerance = options.max_logit_difference
        session = open_session(best / MODEL_FILE)
        outcome = compare(session, reference, tolerance=tolerance)
        if fused and not _is_equal(outcome, tolerance):
            notes.append(f"fusion was left out: it {_in_words(outcome)}")
            fused, best = {}, plain
            session = open_session(plain / MODEL_FILE)
            outcome = compare(session, reference, tolerance=tolerance)
        if not _is_equal(outcome, tolerance):
            raise ExportError(
                f"The exported model differs from its checkpoint: it {_in_words(outcome)}.",
                where=_where(outcome, tolerance),
                hint="Raise export.max_logit_difference if the difference is harmless; "
                "otherwise please report it with the name of the base model.",
            )
        if not fused.get("Attention"):
            notes.append("attention was not fused" if fused else "no operator was fused")
        report("exporting", 3, _STEPS, "8-bit arithmetic")
        features = processor_features()
        choice = choose_precision(
            best,
            staged,
            # How often rounding changes a label is asked of real texts; probes are gibberish.
            reference=texts if texts.encodings else reference,
            outcome=outcome,
            options=options,
            precision=precision or options.precision,
            features=features,
            calibration=lambda: make_feeds(
                source, calibration[:_CALIBRATION_ROWS], task=task, max_tokens=max_tokens
            ),
        )
        notes += choice.notes
        report("exporting", 4, _STEPS, "writing the folder")
        result = staged / "result"
        shutil.copytree(plain, result)
        shutil.copyfile(choice.folder / MODEL_FILE, result / MODEL_FILE)
        if choice.precision == "int8":
            shutil.copyfile(best / MODEL_FILE, result / FALLBACK_FILE)
        _set_limit(result, max_tokens)
        _add_facts(result, temperature=temperature, max_tokens=max_tokens, task=task.name)
        notes += _check_with_optimum(
            result,
            reference,
            tolerance=tolerance,
            is_exact=choice.precision == "fp32",
        )
        if folder.exists():
            raise ExportError(
                f"There is something at {folder.name} already.",
                where=str(folder),
                hint="Name a folder that does not exist; nothing is ever overwritten.",
            )
        result.rename(folder)
    chosen = choice.outcome
    report("exporting", _STEPS, _STEPS, f"{choice.precision}, {chosen.rows} rows compared")
    return ExportReport(
        folder=folder,
        precision=choice.precision,
        recipe=choice.recipe,
        tried=choice.tried,
        max_abs_difference=chosen.max_abs_difference,
        relative_difference=chosen.relative_difference,
        logit_spread=chosen.spread,
        required={
            "max_logit_difference": tolerance if choice.precision == "fp32" else None,
            "label_agreement": 1.0 if choice.precision == "fp32" else options.min_label_agreement,
        },
        label_agreement=chosen.agreement,
        rows_checked=chosen.rows,
        fused=fused,
        max_tokens=max_tokens,
        position_limit=limit,
        pad_id=pad_id,
        size_bytes=(folder / MODEL_FILE).stat().st_size,
        processor=features,
        notes=(*notes, *choice.warnings),
        warnings=choice.warnings,
    )


def _check_with_optimum(
    folder: Path, reference: Reference, *, tolerance: float, is_exact: bool
) -> tuple[str, ...]:
    """Check that optimum loads a finished folder, and that what it answers is right.

    An exact graph is compared with its source, in padded batches too; a rounded one with itself,
    row by row.

    Returns:
        What is to be said: that there is no optimum here to ask.
    Raises:
        ExportError: When it does not load the folder, or answers otherwise.
    """
    from contlearn.export.graph import quiet
    from contlearn.export.parity import compare, open_session, open_with_optimum

    expected = reference.some(_OPTIMUM_ROWS)
    try:
        with quiet():
            model = open_with_optimum(folder, words=reference.has_places)
        if model is None:
            return (NO_OPTIMUM,)
        if not is_exact:
            expected = expected.answered_by(open_session(folder / MODEL_FILE))
        outcome = compare(model, expected, tolerance=tolerance, alone=not is_exact)
    except Exception as error:  # whatever optimum and onnxruntime raise
        raise ExportError(
            f"optimum does not load or run the exported folder: {type(error).__name__} {error}",
            where="ORTModelFor….from_pretrained",
            hint="Please report this with the name of the base model.",
        ) from error
    if not _is_equal(outcome, tolerance):
        raise ExportError(
            f"Loaded with optimum, the exported model answers otherwise: it {_in_words(outcome)}.",
            where=_where(outcome, tolerance),
            hint="Please report this with the name of the base model.",
        )
    return ()


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Give a place beside a folder to build it in; nothing is left there, however it ends."""
    staged = folder.with_name(f".{folder.name.lstrip('.')}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _is_equal(outcome: Comparison, tolerance: float) -> bool:
    return outcome.relative_difference <= tolerance and outcome.agreement == 1.0


def _in_words(outcome: Comparison) -> str:
    return (
        f"differs by {outcome.max_abs_difference:.3g} in its logits, "
        f"{outcome.relative_difference:.2g} of their spread of {outcome.spread:.3g}, and gives "
        f"{outcome.agreement:.2%} of the labels"
    )


def _where(outcome: Comparison, tolerance: float) -> str:
    return (
        f"{outcome.rows} rows; allowed is export.max_logit_difference = {tolerance:g} of the "
        "spread, and every label must be the same"
    )


def _mixed(samples: Sequence[Inputs]) -> list[Inputs]:
    """Spread neighbours apart, so that batches of any stream hold short and long inputs."""
    half = (len(samples) + 1) // 2
    mixed: list[Inputs] = []
    for first, second in zip(samples[:half], [*samples[half:], None], strict=False):
        mixed.append(first)
        if second is not None:
            mixed.append(second)
    return mixed


def _add_facts(folder: Path, *, temperature: float, max_tokens: int, task: str) -> None:
    """Write what prediction needs besides the graph; transformers passes unknown keys over."""
    import json

    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    config["contlearn"] = {"task": task, "temperature": temperature, "max_tokens": max_tokens}
    write_json_atomic(path, config)


def _set_limit(folder: Path, max_tokens: int) -> None:
    """Let transformers' tokenizers cut where training cut: `tokenizer(text, truncation=True)`."""
    import json

    path = folder / "tokenizer_config.json"
    if path.exists():
        config = json.loads(path.read_bytes())
        config["model_max_length"] = max_tokens
        write_json_atomic(path, config)
