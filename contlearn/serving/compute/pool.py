"""The processes that compute, as the server sees them.

Threads of one process would wait for Python's lock between any two runs of the model; processes
do not. They are forked from one that has loaded the version, so they share its memory. Each worker
answers one batch at a time; a worker that dies is replaced, and what it was asked is asked once
more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import ServingError
from contlearn.interfaces import Task
from contlearn.serving.compute.messages import receive, send, send_sockets
from contlearn.targets import target_from_json
from contlearn.types import Encoding, Inputs, LabelSpace, Prediction

if TYPE_CHECKING:
    from contlearn.inference.predictor import Answer
    from contlearn.plugins.manager import PluginManager

__all__ = ["RemotePredictor", "WorkerPool"]

_log = logging.getLogger("contlearn.serving")
_END_SECONDS: Final = 5.0


@dataclass(eq=False, slots=True)
class _Worker:
    """One worker of a version, and the connection to it."""

    data: socket.socket
    pid: int

    def ask(self, items: Sequence[Any]) -> Any:
        send(self.data, items)
        return receive(self.data)

    def end(self) -> None:
        """Tell it that nobody asks any more, and wait for its end; a stuck one is killed."""
        try:
            self.data.shutdown(socket.SHUT_WR)
            self.data.settimeout(_END_SECONDS)
            while self.data.recv(1 << 16):
                continue
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass
        self.data.close()


@dataclass(eq=False, slots=True)
class _Version:
    """A version with its host and its workers."""

    order: Mapping[str, Any]
    host: socket.socket
    workers: list[_Worker]
    idle: queue.SimpleQueue[_Worker]
    is_dropped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def give_back(self, worker: _Worker) -> None:
        """Let others ask a worker; one of a version that is not wanted any more is let go."""
        with self.lock:
            if self.is_dropped:
                worker.data.close()
            else:
                self.idle.put(worker)

    def drop(self) -> None:
        """Let go of all that are idle now, and of the others when they are given back."""
        with self.lock:
            self.is_dropped = True
            self.host.close()
            with contextlib.suppress(queue.Empty):
                while True:
                    self.idle.get_nowait().data.close()


@dataclass(eq=False)
class WorkerPool:
    """Loads versions, each with workers of its own, and asks whichever is free.

    Args:
        count: How many workers a version has.
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
    _versions: dict[str, _Version] = field(default_factory=dict, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _control: socket.socket = field(init=False)
    _control_lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopping: bool = field(default=False, init=False)

    def start(self) -> None:
        """Start the process that workers are forked from."""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "contlearn.serving.compute.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the server, which drains first
                # One thread in each process: a fork takes no others along.
                env={
                    **os.environ,
                    "TOKENIZERS_PARALLELISM": "false",
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        options = {
            "plugins_dir": None if self.plugins_dir is None else str(self.plugins_dir.absolute()),
            "blocked": list(self.blocked),
            "intra_threads": self.intra_threads,
        }
        send(self._control, options)

    def stop(self) -> None:
        """End all processes."""
        self._stopping = True
        for key, version in list(self._versions.items()):
            for worker in version.workers:
                worker.end()
            self.drop(key)
        process = self._process
        if process is None:
            return
        self._control.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pids(self) -> list[int]:
        """Give the process ids of the workers."""
        versions = list(self._versions.values())
        return [worker.pid for version in versions for worker in version.workers]

    def loader(self, key: Path | None) -> Callable[[Path], RemotePredictor]:
        """Give what loads version folders; with a key, only those that it signed."""
        return lambda folder: self.load(folder, signed_by=key)

    def load(self, folder: Path, *, signed_by: Path | None = None) -> RemotePredictor:
        """Load a version once, for all of its workers.

        Args:
            folder: Of the version.
            signed_by: The public key that must have signed it; None takes unsigned ones too.
        Raises:
            ServingError: When it cannot be.
        """
        order = {
            "folder": str(folder),
            "signed_by": None if signed_by is None else str(signed_by),
            # Beside a version that answers it is loaded at low priority: the rest stays quick.
            "beside": bool(self._versions),
        }
        host, workers, facts = self._host(order, self.count)
        task = self.manager.task(str(facts["task"]), facts.get("task_options"), where=str(folder))
        idle = queue.SimpleQueue[_Worker]()
        for worker in workers:
            idle.put(worker)
        key = uuid.uuid4().hex
        self._versions[key] = _Version(order, host, workers, idle)
        return RemotePredictor(self, key, facts, task)

    def drop(self, key: str) -> None:
        """Let go of a version; its workers end after what they are doing."""
        version = self._versions.pop(key, None)
        if version is not None:
            version.drop()

    def ask_worker(self, key: str, items: Sequence[Any]) -> list[dict[str, Any]]:
        """Ask a worker of a version that is free.

        Raises:
            ServingError: When the version fails on these items.
        """
        version = self._versions.get(key)
        if version is None:
            raise ServingError("The version is not loaded any more.")
        worker = version.idle.get()
        try:
            try:
                reply = worker.ask(items)
            except OSError:
                if self._stopping or version.is_dropped:
                    raise
                self._replace(version, worker)
                reply = worker.ask(items)
        except OSError as error:
            raise ServingError(
                f"A worker of the server ended: {error}.",
                hint="Send the request again; the server's log may say more.",
            ) from error
        finally:
            version.give_back(worker)
        if "failed" in reply:
            raise ServingError(f"The version failed on a text: {reply['failed']}.")
        answers: list[dict[str, Any]] = reply["answers"]
        return answers

    def _replace(self, version: _Version, worker: _Worker) -> None:
        """Let the host fork another worker; where the host is gone too, load the version again."""
        with version.lock:
            worker.data.close()
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    send(version.host, {"died": worker.pid})
                    send_sockets(version.host, [theirs])
                reply = receive(version.host)
            except OSError:
                ours.close()
                version.host.close()
                version.host, (other,), _ = self._host({**version.order, "beside": True}, 1)
                reply = {"pid": other.pid, "code": None}
                ours = other.data
            _log.error(
                "worker ended; another was started",
                extra={"pid": worker.pid, "code": reply["code"]},
            )
            worker.data, worker.pid = ours, reply["pid"]

    def _host(
        self, order: Mapping[str, Any], workers: int
    ) -> tuple[socket.socket, list[_Worker], dict[str, Any]]:
        """Have a version loaded; give the connections to its host and its workers, and facts.

        A host that ends meanwhile is replaced once.

        Raises:
            ServingError: When the version cannot be loaded.
        """
        for _ in range(2):
            pairs = [socket.socketpair() for _ in range(workers + 1)]
            host, *data = (ours for ours, _ in pairs)
            try:
                self._send({**order, "workers": workers}, [theirs for _, theirs in pairs])
                for _, theirs in pairs:
                    theirs.close()
                reply: dict[str, Any] = receive(host)
            except OSError:
                for pair in pairs:
                    for each in pair:
                        each.close()
                continue
            if "what" in reply:
                for ours, _ in pairs:
                    ours.close()
                raise ServingError(reply["what"], where=reply["where"], hint=reply.get("hint"))
            made = [_Worker(ours, pid) for ours, pid in zip(data, reply["pids"], strict=True)]
            return host, made, reply
        # Twice in a row: the version itself may be what ends it.
        raise ServingError(
            "A worker of the server ended while it loaded the version.",
            where=str(order["folder"]),
            hint="The server's log may say why; roll back, or give it more memory.",
        )

    def _send(self, order: Mapping[str, Any], sockets: Sequence[socket.socket]) -> None:
        """Give an order to the fork server; one that ended is started again first."""
        with self._control_lock:
            if self._process is not None and self._process.poll() is not None:
                self._restart()
            try:
                self._pass(order, sockets)
            except OSError:
                # Its sockets close a moment before the end of the process can be seen.
                if self._process is None or self._stopping:
                    raise
                self._restart()
                self._pass(order, sockets)

    def _pass(self, order: Mapping[str, Any], sockets: Sequence[socket.socket]) -> None:
        send(self._control, order)
        send_sockets(self._control, sockets)

    def _restart(self) -> None:
        """Start another fork server in place of one that has ended or is about to."""
        if self._process is None or self._stopping:
            return
        self._control.close()
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        _log.error("fork server ended; starting it again", extra={"code": code})
        self.start()


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
        return [_answer(item) for item in self._pool.ask_worker(self._key, list(inputs))]

    def answer_ids(self, encodings: Sequence[Encoding]) -> list[Answer]:
        """Answer ids that the client made itself."""
        items = [{"ids": encoding.input_ids} for encoding in encodings]
        return [_answer(item) for item in self._pool.ask_worker(self._key, items)]

    def close(self) -> None:
        """Let the workers forget the version."""
        self._pool.drop(self._key)


def _answer(value: Mapping[str, Any]) -> Answer:
    import numpy as np

    from contlearn.inference.predictor import Answer

    prediction = Prediction(
        value=value["value"],
        target=target_from_json(value["target"]),
        labels=tuple(value["labels"]),
        confidence=None if value["confidence"] is None else float(value["confidence"]),
        key=value["key"],
    )
    return Answer(
        prediction=prediction,
        logits=np.array(value["logits"], dtype=np.float32),
        projection=np.array(value["projection"], dtype=np.float32),
        tokens=value["tokens"],
        truncated=value["truncated"],
        unknown_pieces=value["unknown_pieces"],
    )
