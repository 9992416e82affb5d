"""The processes that compute, as the server sees them.

Threads of one process would wait for Python's lock between any two runs of the model; processes
do not. Each worker answers one batch at a time; a worker that dies is started again, and what it
was asked is asked once more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import ServingError
from contlearn.interfaces import Task
from contlearn.serving.messages import receive, send
from contlearn.types import (
    ClassPrediction,
    Encoding,
    Entity,
    EntityPrediction,
    Inputs,
    LabelSpace,
    Prediction,
)

if TYPE_CHECKING:
    from contlearn.inference.predictor import Answer
    from contlearn.plugins.manager import PluginManager

__all__ = ["RemotePredictor", "WorkerPool"]

_log = logging.getLogger("contlearn.serving")
_END_SECONDS: Final = 5.0
_TURN_SECONDS: Final = 0.01


class _Process:
    """One worker: its process and the two connections to it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._control_lock = threading.Lock()
        self.start()

    def start(self) -> None:
        self.data, data = socket.socketpair()
        self.control, control = socket.socketpair()
        with data, control:
            numbers = (data.fileno(), control.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-m", "contlearn.serving.worker", *map(str, numbers)],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the server, which drains first
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )
        send(self.control, self._options)

    def ask(self, message: object) -> Any:
        send(self.data, message)
        return receive(self.data)

    def tell(self, message: object) -> Any:
        with self._control_lock:
            send(self.control, message)
            return receive(self.control)

    def end(self) -> None:
        self.data.close()
        self.control.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(eq=False)
class WorkerPool:
    """Loads versions in all workers and asks whichever is free.

    Args:
        count: How many workers.
        manager: Knows the tasks.
        intra_threads: Cores that one run is spread over.
        plugins_dir: Plugin files that the workers load too.
        blocked: Plugins that they leave out.
    """

    count: int
    manager: PluginManager
    intra_threads: int = 1
    plugins_dir: Path | None = None
    blocked: Sequence[str] = ()
    _workers: list[_Process] = field(default_factory=list, init=False)
    _idle: queue.SimpleQueue[_Process] = field(default_factory=queue.SimpleQueue, init=False)
    _loaded: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False)
    _stopping: bool = field(default=False, init=False)

    def start(self) -> None:
        """Start the workers; they are ready when the first version is loaded."""
        options = {
            "plugins_dir": None if self.plugins_dir is None else str(self.plugins_dir.absolute()),
            "blocked": list(self.blocked),
            "intra_threads": self.intra_threads,
        }
        for _ in range(self.count):
            worker = _Process(options)
            self._workers.append(worker)
            self._idle.put(worker)

    def stop(self) -> None:
        """End the workers."""
        self._stopping = True
        for worker in self._workers:
            worker.end()

    @property
    def pids(self) -> list[int]:
        """Give the process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def loader(self, key: Path | None) -> Callable[[Path], RemotePredictor]:
        """Give what loads version folders; with a key, only those that it signed."""
        return lambda folder: self.load(folder, signed_by=key)

    def load(self, folder: Path, *, signed_by: Path | None = None) -> RemotePredictor:
        """Load a version in every worker.

        Args:
            folder: Of the version.
            signed_by: The public key that must have signed it; None takes unsigned ones too.
        Raises:
            ServingError: When one of them cannot; then none keeps it.
        """
        key = uuid.uuid4().hex
        message = {
            "what": "load",
            "key": key,
            "folder": str(folder),
            "signed_by": None if signed_by is None else str(signed_by),
        }

        def load_in(worker: _Process) -> dict[str, Any]:
            return self._load_in(worker, message)

        if self._loaded:
            # Beside a version that answers one worker loads after the other: the rest stay quick.
            replies = []
            for worker in self._workers:
                replies.append(load_in(worker))
                if "what" in replies[-1]:
                    break
        else:
            with ThreadPoolExecutor(self.count, thread_name_prefix="load") as threads:
                replies = list(threads.map(load_in, self._workers))
        problem = next((reply for reply in replies if "what" in reply), None)
        if problem is not None:
            self.drop(key)
            raise ServingError(
                str(problem["what"]), where=problem.get("where"), hint=problem.get("hint")
            )
        self._loaded[key] = message
        task = self.manager.get("task", str(replies[0]["task"]), where=str(folder))()
        return RemotePredictor(self, key, replies[0], task)

    def _load_in(self, worker: _Process, message: Mapping[str, Any]) -> dict[str, Any]:
        """Load in one worker; one that ends meanwhile is started again and told once more."""
        pid = worker.process.pid
        try:
            try:
                reply: dict[str, Any] = worker.tell(message)
            except OSError:
                self._revive(worker, pid)
                reply = worker.tell(message)
        except OSError:
            # Twice in a row: the version itself may be what ends it.
            return {
                "what": "A worker of the server ended while it loaded the version.",
                "where": str(message["folder"]),
                "hint": "The server's log may say why; roll back, or give it more memory.",
            }
        return reply

    def _revive(self, worker: _Process, pid: int) -> None:
        """Start a worker again, unless whoever asked it has done so already."""
        while (free := self._idle.get()) is not worker:
            self._idle.put(free)
            time.sleep(_TURN_SECONDS)
        try:
            if worker.process.pid == pid and not self._stopping:
                self._restart(worker)
        finally:
            self._idle.put(worker)

    def drop(self, key: str) -> None:
        """Let every worker forget a version."""
        self._loaded.pop(key, None)
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.tell({"what": "drop", "key": key})

    def answer(self, key: str, items: Sequence[Any]) -> list[dict[str, Any]]:
        """Ask a worker that is free.

        Raises:
            ServingError: When the version fails on these items.
        """
        message = {"key": key, "items": items}
        worker = self._idle.get()
        try:
            try:
                reply = worker.ask(message)
            except OSError:
                if self._stopping:
                    raise
                self._restart(worker)
                reply = worker.ask(message)
            loaded = self._loaded.get(key)
            if "unknown" in reply and loaded is not None:
                # It was started again in the moment in which the others took the version up.
                self._tell_again(worker, loaded)
                reply = worker.ask(message)
        except OSError as error:
            raise ServingError(
                f"A worker of the server ended: {error}.",
                hint="Send the request again; the server's log may say more.",
            ) from error
        finally:
            self._idle.put(worker)
        if "unknown" in reply:
            raise ServingError("The version is not loaded any more.")
        if "failed" in reply:
            raise ServingError(f"The version failed on a text: {reply['failed']}.")
        answers: list[dict[str, Any]] = reply["answers"]
        return answers

    def _restart(self, worker: _Process) -> None:
        worker.end()
        _log.error("worker ended; starting it again", extra={"code": worker.process.returncode})
        worker.start()
        for message in list(self._loaded.values()):
            self._tell_again(worker, message)

    def _tell_again(self, worker: _Process, message: Mapping[str, Any]) -> None:
        reply = worker.tell(message)
        if "what" in reply:
            _log.error("worker cannot load", extra={"error": reply["what"]})


class RemotePredictor:
    """A version in the workers; to the server it is a predictor like any other."""

    def __init__(self, pool: WorkerPool, key: str, facts: Mapping[str, Any], task: Task) -> None:
        self._pool = pool
        self._key = key
        self.task = task
        self.label_space = LabelSpace(tuple(facts["labels"]))
        self.max_tokens = int(facts["max_tokens"])
        self.temperature = float(facts["temperature"])
        self.precision = str(facts["precision"])
        self.graph_inputs = tuple(facts["graph_inputs"])
        self.vocabulary_size = int(facts["vocabulary_size"])

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """Predict one answer per input, in order."""
        return [answer.prediction for answer in self.predict_detailed(inputs)]

    def predict_detailed(self, inputs: Sequence[Inputs]) -> list[Answer]:
        """Predict one answer per input, with logits, projection and counts."""
        return [_answer(item) for item in self._pool.answer(self._key, list(inputs))]

    def answer_ids(self, encodings: Sequence[Encoding]) -> list[Answer]:
        """Answer ids that the client made itself."""
        items = [{"ids": encoding.input_ids} for encoding in encodings]
        return [_answer(item) for item in self._pool.answer(self._key, items)]

    def close(self) -> None:
        """Let the workers forget the version."""
        self._pool.drop(self._key)


def _answer(value: Mapping[str, Any]) -> Answer:
    import numpy as np

    from contlearn.inference.predictor import Answer

    part = value["prediction"]
    prediction: Prediction
    if "entities" in part:
        prediction = EntityPrediction(
            entities=tuple(Entity(**entity) for entity in part["entities"]),
            tags=tuple(value["tags"]),
        )
    else:
        # JSON has no NaN: what is no number came as null.
        confidence = part["confidence"]
        prediction = ClassPrediction(
            label=part["label"],
            confidence=float("nan") if confidence is None else confidence,
            scores=part["scores"],
        )
    return Answer(
        prediction=prediction,
        logits=np.array(value["logits"], dtype=np.float32),
        projection=np.array(value["projection"], dtype=np.float32),
        tokens=value["tokens"],
        truncated=value["truncated"],
        unknown_pieces=value["unknown_pieces"],
    )
