"""Answers from an exported version: tokenizers in front, onnxruntime behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import ServingError
from contlearn.inference.manifest import (
    FALLBACK_FILE,
    MODEL_FILE,
    check_files,
    link_problem,
    served_files,
)
from contlearn.inference.opening import damaged, is_quantised, load_tokenizer, open_session
from contlearn.inference.processor import available_cores, has_safe_int8, processor_features
from contlearn.interfaces import Task
from contlearn.papers.manifest import MANIFEST, find_manifest, read_manifest
from contlearn.types import Calibration, Encoding, Inputs, LabelSpace, Prediction

if TYPE_CHECKING:
    from contlearn.plugins.manager import PluginManager
    from contlearn.types import FloatArray, IntArray

__all__ = ["Answer", "OnnxPredictor"]

# Rows of one fp32 run. Measured on two cores with the 6-layer encoder: more than 8 rows gain
# nothing, and padding costs as much as it is long, so a run mixes lengths by a tenth at most.
_ROWS_PER_RUN: Final = 8
_PADDING_SHARE: Final = 0.1
# Tokenising goes by parts, so that a long list never stands in memory twice.
_ROWS_PER_PART: Final = 1024
# Masks that are kept: one for each number of rows and length that comes.
_MAX_CONSTANTS: Final = 4096
_NO_PREDICTION: Final = Prediction(value={}, target=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One prediction with what stands behind it.

    `logits` is (C,) for a text and (words, C) for tags; `projection` is the fixed random
    projection of the pooled embedding, for drift.
    """

    prediction: Prediction
    logits: FloatArray
    projection: FloatArray
    tokens: int
    truncated: bool
    unknown_pieces: int


class OnnxPredictor:
    """Answers texts with an exported model.

    A quantised graph runs one row at a time: its activations are scaled over everything in a run,
    so a text's answer would otherwise depend on the texts beside it. Rows of other graphs run
    together when they are of nearly equal length. Runs are spread over threads, one core each.

    Args:
        folder: Holds model.onnx and tokenizer.json.
        task: What the model answers.
        label_space: The outputs, in order.
        max_tokens: Longer inputs are cut.
        calibration: What turns scores into calibrated answers.
        threads: Runs at the same time; 0 takes the cores that are there.
        intra_threads: Cores that one run is spread over.
        model_file: Another file of the folder to run.
        tokenizer: One that was loaded from the same tokenizer.json before; parsing it again would
            hold up every other thread for as long as it takes.
        pad_id: Fills rows that run together with longer ones, as it did in training.
    Raises:
        ServingError: When a file is missing, linked, or not a model of this task.
    """

    def __init__(
        self,
        folder: Path,
        *,
        task: Task,
        label_space: LabelSpace,
        max_tokens: int,
        calibration: Calibration | None = None,
        threads: int = 0,
        intra_threads: int = 1,
        model_file: str = MODEL_FILE,
        tokenizer: Any = None,
        pad_id: int = 0,
    ) -> None:
        self.folder = folder
        self.task = task
        self.label_space = label_space
        self.max_tokens = max_tokens
        self.calibration = calibration or Calibration()
        self.pad_id = pad_id
        self.threads = threads or available_cores()
        self.version: int | None = None
        self.task_options: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        self.tokenizer = load_tokenizer(folder) if tokenizer is None else tokenizer
        path = self._path = folder / model_file
        self._session = open_session(path, intra_threads)
        self.precision = "int8" if is_quantised(path) else "fp32"
        self.graph_inputs = tuple(item.name for item in self._session.get_inputs())
        self.graph_outputs = {
            item.name: [size if isinstance(size, int) else None for size in item.shape]
            for item in self._session.get_outputs()
        }
        unknown = set(self.graph_inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or "logits" not in self.graph_outputs:
            raise ServingError(
                f"{model_file} takes {', '.join(self.graph_inputs)} and gives "
                f"{', '.join(self.graph_outputs)}: it is not a text model of contlearn.",
                where=str(path),
                hint="Export the version again with `contlearn export`.",
            )
        width = self.graph_outputs["logits"][-1]
        if width is not None and width != len(label_space):
            raise ServingError(
                f"{model_file} gives {width} scores, but there are {len(label_space)} labels.",
                where=str(path),
                hint="Model and manifest belong to different versions; run `contlearn verify`.",
            )
        self._outputs = [n for n in ("logits", "projection") if n in self.graph_outputs]
        self._constants: dict[tuple[int, int], tuple[IntArray, IntArray]] = {}
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="predict")

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        manager: PluginManager,
        threads: int = 0,
        intra_threads: int = 1,
        verify: bool = True,
        features: Sequence[str] | None = None,
        tokenizer: Any = None,
    ) -> OnnxPredictor:
        """Load a serving copy, or versions/<n>/onnx, by what its manifest says.

        On a processor with other features than the manifest's, an int8 model must give its golden
        answers here too; otherwise, and where 8-bit products saturate (which a few golden texts
        may not show), the fp32 twin is taken, if the version has one.

        Args:
            folder: Holds the model.
            manager: Knows the task.
            threads: Runs at the same time; 0 takes the cores that are there.
            intra_threads: Cores that one run is spread over.
            verify: Check the SHA-256 of every file first.
            features: What the processor can do; asked of this machine if left out.
            tokenizer: One that was loaded from the same tokenizer.json before.
        Raises:
            ServingError: When a file is missing, changed, truncated or linked (by its name), or
                the model answers wrongly on this processor.
            RegistryError: When there is no manifest, or another contlearn wrote it.
        """
        manifest_path = find_manifest(folder)
        problem = link_problem(manifest_path)
        if problem is not None:
            raise damaged(folder, [f"{MANIFEST} {problem}"])
        manifest = read_manifest(manifest_path)
        files = served_files(manifest)
        # The fp32 twin is many times the rest; it is read only where it is needed.
        twin = {name: files.pop(name) for name in (FALLBACK_FILE,) if name in files}
        problems = check_files(folder, files, digests=verify)
        problems += check_files(folder, twin, digests=False)
        if problems:
            raise damaged(folder, problems)
        model = manifest.model
        task = manager.task(str(model.task), model.task_options, where=str(manifest_path))

        def open_file(name: str) -> OnnxPredictor:
            opened = cls(
                folder,
                task=task,
                label_space=LabelSpace(model.labels),
                max_tokens=int(model.max_tokens or 0),
                calibration=model.calibration,
                threads=threads,
                intra_threads=intra_threads,
                model_file=name,
                tokenizer=tokenizer,
                pad_id=model.pad_id,
            )
            opened.version = manifest.version
            opened.task_options = dict(model.task_options)
            if model.precision == "fp16" and name == MODEL_FILE:
                opened.precision = "fp16"
            return opened

        predictor = open_file(MODEL_FILE)
        if predictor.precision != "int8":
            return predictor
        here = tuple(sorted(processor_features() if features is None else features))
        if here == tuple(sorted(model.processor)):
            return predictor
        from contlearn.inference.golden import check_golden

        has_twin = (folder / FALLBACK_FILE).is_file()
        if has_twin and not has_safe_int8(here):
            why = "8-bit products saturate on this processor (no VNNI)"
        else:
            wrong = check_golden(predictor, manifest.golden)
            if not wrong:
                predictor.notes = ("int8 was checked again on this processor and holds",)
                return predictor
            why = f"it is wrong on this processor: {wrong[0]}"
        predictor.close()
        if not has_twin:
            raise ServingError(
                f"The int8 model cannot be used: {why}.",
                where=str(folder / MODEL_FILE),
                hint='Set export.precision = "fp32" and update, or serve on a processor with '
                f"{', '.join(model.processor) or 'other features'}.",
            )
        problems = check_files(folder, twin, digests=verify)
        if problems:
            raise damaged(folder, problems)
        fallback = open_file(FALLBACK_FILE)
        fallback.notes = (f"fp32 instead of int8: {why}",)
        return fallback

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """Predict one answer per input, in order."""
        return [answer.prediction for answer in self.predict_detailed(inputs)]

    def predict_detailed(self, inputs: Sequence[Inputs]) -> list[Answer]:
        """Predict one answer per input, with logits, projection and counts."""
        answers: list[Answer] = []
        for start in range(0, len(inputs), _ROWS_PER_PART):
            answers.extend(self._answer_part(inputs[start : start + _ROWS_PER_PART]))
        return answers

    def close(self) -> None:
        """Let go of threads and memory."""
        self._pool.shutdown(wait=True)
        self._session = None

    def spread(self, intra_threads: int) -> None:
        """Spread each run over so many cores from now on; nothing may be running."""
        self._session = open_session(self._path, intra_threads)

    @property
    def temperature(self) -> float:
        """Give what logits are divided by."""
        return self.calibration.temperature

    @property
    def vocabulary_size(self) -> int:
        """Give how many pieces there are."""
        return int(self.tokenizer.get_vocab_size())

    def answer_ids(self, encodings: Sequence[Encoding]) -> list[Answer]:
        """Answer ids that a client made itself, with a prediction where a text has one row.

        Rows of words or pieces mean nothing without their text: logits are all there is of them.
        """
        answers = []
        for encoding, row in zip(encodings, self.run_encoded(encodings), strict=True):
            if row["logits"].ndim == 1:
                answers.append(self.answer_encoded({}, (encoding,), [row]))
                continue
            answers.append(
                Answer(
                    prediction=_NO_PREDICTION,
                    logits=row["logits"],
                    projection=_nothing(),
                    tokens=len(encoding.input_ids),
                    truncated=False,
                    unknown_pieces=0,
                )
            )
        return answers

    def run_encoded(self, encodings: Sequence[Encoding]) -> list[dict[str, FloatArray]]:
        """Run the graph on inputs that are tokenised already.

        Returns:
            The outputs of each, by name: logits (C,) for a text, (words, C) for tags.
        """
        outputs: list[dict[str, FloatArray]] = [{}] * len(encodings)
        runs = list(self._runs(encodings))
        batches = [[encodings[i] for i in run] for run in runs]
        results: Iterable[list[dict[str, FloatArray]]]
        if len(runs) == 1 or self.threads == 1:
            results = map(self._run, batches)
        else:
            results = self._pool.map(self._run, batches)
        for run, rows in zip(runs, results, strict=True):
            for position, row in zip(run, rows, strict=True):
                outputs[position] = row
        return outputs

    def answer_encoded(
        self, inputs: Inputs, encodings: tuple[Encoding, ...], outputs: list[dict[str, FloatArray]]
    ) -> Answer:
        """Make the answer of one input from what the graph said about its encodings."""
        prediction = self.task.decode(
            outputs, encodings, inputs, self.label_space, self.calibration
        )
        if len(outputs) == 1:
            first, encoding = outputs[0], encodings[0]
            return Answer(
                prediction=prediction,
                logits=first["logits"],
                projection=first["projection"] if "projection" in first else _nothing(),
                tokens=len(encoding.input_ids),
                truncated=encoding.truncated,
                unknown_pieces=encoding.unknown_pieces,
            )
        import numpy as np

        projections = [row["projection"] for row in outputs if "projection" in row]
        return Answer(
            prediction=prediction,
            logits=np.concatenate([row["logits"] for row in outputs]),
            projection=np.mean(projections, axis=0) if projections else _nothing(),
            tokens=sum(len(encoding.input_ids) for encoding in encodings),
            truncated=any(encoding.truncated for encoding in encodings),
            unknown_pieces=sum(encoding.unknown_pieces for encoding in encodings),
        )

    def _answer_part(self, inputs: Sequence[Inputs]) -> list[Answer]:
        windows = self.task.encode(self.tokenizer, inputs, self.max_tokens)
        flat = [encoding for encodings in windows for encoding in encodings]
        outputs = self.run_encoded(flat)
        answers, at = [], 0
        for item, encodings in zip(inputs, windows, strict=True):
            end = at + len(encodings)
            answers.append(self.answer_encoded(item, encodings, outputs[at:end]))
            at = end
        return answers

    def _runs(self, encodings: Sequence[Encoding]) -> Iterator[list[int]]:
        """Put rows of nearly equal length together; longest first, so that threads end together."""
        order = sorted(range(len(encodings)), key=lambda i: -len(encodings[i].input_ids))
        if self.precision == "int8":
            yield from ([i] for i in order)
            return
        run: list[int] = []
        for i in order:
            longest = len(encodings[run[0]].input_ids) if run else 0
            shorter = longest - len(encodings[i].input_ids)
            if run and (len(run) == _ROWS_PER_RUN or shorter > _PADDING_SHARE * longest):
                yield run
                run = []
            run.append(i)
        if run:
            yield run

    def _run(self, encodings: Sequence[Encoding]) -> list[dict[str, FloatArray]]:
        """Run the graph once. Shape: ids (B, L); logits (B, C) or (B, L, C)."""
        import numpy as np

        lengths = [len(encoding.input_ids) for encoding in encodings]
        length = max(lengths)
        ones, zeros = self._constant(len(encodings), length)
        if min(lengths) == length:
            ids = np.array([encoding.input_ids for encoding in encodings], dtype=np.int64)
            mask = ones
        else:
            ids, mask = np.full_like(zeros, self.pad_id), np.zeros_like(zeros)
            for row, encoding in enumerate(encodings):
                ids[row, : lengths[row]] = encoding.input_ids
                mask[row, : lengths[row]] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": zeros}
        values = self._session.run(self._outputs, {name: feed[name] for name in self.graph_inputs})
        rows = []
        for row, encoding in enumerate(encodings):
            one = {name: value[row] for name, value in zip(self._outputs, values, strict=True)}
            if one["logits"].ndim == 2:
                one["logits"] = one["logits"][list(encoding.word_starts)]
            rows.append(one)
        return rows

    def _constant(self, rows: int, length: int) -> tuple[IntArray, IntArray]:
        """Give the mask and the segments of unpadded rows; never written to, so kept."""
        import numpy as np

        known = self._constants.get((rows, length))
        if known is None:
            shape = (rows, length)
            known = (np.ones(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64))
            if len(self._constants) < _MAX_CONSTANTS:
                self._constants[shape] = known
        return known


def _nothing() -> FloatArray:
    import numpy as np

    return np.zeros(0, dtype=np.float32)
