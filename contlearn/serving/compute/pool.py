"""The processes that compute, as the server sees them.

Threads of one process would wait for Python's lock between any two runs of the model; processes
do not. They are forked from one that has loaded the version, so they share its memory. Each worker
answers one batch after the other, and the next one lies ready in its socket. A worker that dies is
replaced, and so is one that does not answer; what it was asked is asked once more.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from contlearn.errors import ServingError
from contlearn.interfaces import Task
from contlearn.serving.compute.messages import (
    Channel,
    bound_waits,
    receive,
    send,
    send_sockets,
)
from contlearn.serving.compute.watching import (
    LOOK_SECONDS,
    ProcessWatch,
    Silent,
    WorkerSilent,
)
from contlearn.targets import target_from_json
from contlearn.types import Encoding, Inputs, LabelSpace, Prediction

if TYPE_CHECKING:
    from contlearn.inference.predictor import Answer
    from contlearn.plugins.manager import PluginManager

__all__ = ["RemotePredictor", "WorkerPool"]

_log = logging.getLogger("contlearn.serving")
_END_SECONDS: Final = 5.0
# A fork server that imports, or a host that loads, may wait for a slow disk.
_STILL_LOADING_SECONDS: Final = 60.0
# A question is asked twice where a worker is lost over it, and so often where over others.
_MOST_ATTEMPTS: Final = 8


class _Overtaken(OSError):
    """The worker was lost over an earlier question: this one was never begun."""


class _Worker:
    """One worker of a version, and the connection to it.

    Questions are answered in the order in which they were sent, so whoever asks waits for those
    who asked before.
    """

    def __init__(self, data: socket.socket, pid: int, most_seconds: float) -> None:
        bound_waits(data, LOOK_SECONDS)
        self.data = data
        self.pid = pid
        # How many questions are on their way; the version's lock guards it.
        self.asked = 0
        self.is_lost = False
        self._channel = Channel(data)
        self._most_seconds = most_seconds
        self._sending = threading.Lock()
        self._last = threading.Lock()

    def ask(self, items: Sequence[Any]) -> tuple[Any, memoryview]:
        """Ask, and give the answer.

        Raises:
            OSError: When the worker is gone, or silent.
        """
        mine = threading.Lock()
        with mine:  # the next one to ask waits until it is released
            with self._sending:
                before, self._last = self._last, mine
                try:
                    if not self.is_lost:
                        send(self.data, items, self._watch)
                except ConnectionError:
                    pass  # whoever waits for an answer finds out
            with before:
                if self.is_lost:
                    raise _Overtaken("the worker was lost over another request")
                try:
                    return self._channel.receive(self._watch)
                except OSError:
                    self.is_lost = True
                    raise

    def _watch(self) -> ProcessWatch:
        return ProcessWatch(self.pid, most_seconds=self._most_seconds)

    def kill(self) -> None:
        """End it at once; it was not reaped yet, so its number is its own."""
        _kill(self.pid)

    def end(self) -> None:
        """Tell it that nobody asks any more, and wait for its end; a stuck one is killed."""
        try:
            self.data.shutdown(socket.SHUT_WR)
            self.data.settimeout(_END_SECONDS)
            while self.data.recv(1 << 16):
                continue
        except TimeoutError:
            self.kill()
        except OSError:
            pass
        self.data.close()


@dataclass(eq=False, slots=True)
class _Version:
    """A version with its host and its workers; `changed` guards the workers, `mending` the host."""

    order: Mapping[str, Any]
    host: socket.socket
    host_pid: int
    workers: list[_Worker]
    is_dropped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    mending: threading.Lock = field(default_factory=threading.Lock)

    def take(self, seconds: float) -> _Worker:
        """Give the worker that is asked least, in turns; wait while all are being replaced.

        Raises:
            Silent: When none is there in time.
        """
        with self.changed:
            if not self.changed.wait_for(lambda: self.workers, seconds):
                raise Silent("none could be started")
            worker = min(self.workers, key=lambda worker: worker.asked)
            self.workers.remove(worker)
            self.workers.append(worker)
            worker.asked += 1
            return worker

    def give_back(self, worker: _Worker) -> None:
        """Note that a question was answered; a worker that nobody wants any more is let go."""
        with self.changed:
            worker.asked -= 1
            if not worker.asked and (self.is_dropped or worker.is_lost):
                worker.data.close()

    def add(self, other: _Worker) -> None:
        """Let another worker be asked, or be let go where the version is."""
        with self.changed:
            # Before the others: what the former one was asked goes to the one that surely runs.
            self.workers.insert(0, other)
            if self.is_dropped:
                other.data.close()
            self.changed.notify_all()

    def drop(self) -> None:
        """Let go of all that are idle now, and of the others when they are given back."""
        with self.changed:
            self.is_dropped = True
            for worker in self.workers:
                if not worker.asked:
                    worker.data.close()
        with self.mending:
            self.host.close()


@dataclass(eq=False)
class WorkerPool:
    """Loads versions, each with workers of its own, and asks whichever is free.

    Args:
        count: How many workers a version has.
        manager: Knows the tasks.
        intra_threads: Cores that one run is spread over.
        plugins_dir: Plugin files that the workers load too.
        blocked: Plugins that they leave out.
        most_seconds: A worker that takes longer for one run is replaced.
        on_replaced: Told of every worker that was replaced, whether it had ended or was silent.
    """

    count: int
    manager: PluginManager
    intra_threads: int = 1
    plugins_dir: Path | None = None
    blocked: Sequence[str] = ()
    most_seconds: float = 10.0
    on_replaced: Callable[[Literal["ended", "silent"]], None] = lambda _: None
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
        version, facts = self._host(order, self.count)
        task = self.manager.task(str(facts["task"]), facts.get("task_options"), where=str(folder))
        key = uuid.uuid4().hex
        self._versions[key] = version
        return RemotePredictor(self, key, facts, task)

    def drop(self, key: str) -> None:
        """Let go of a version; its workers end after what they are doing."""
        version = self._versions.pop(key, None)
        if version is not None:
            version.drop()

    def ask_worker(self, key: str, items: Sequence[Any]) -> list[Answer]:
        """Ask the worker of a version that has least to do.

        Raises:
            ServingError: When the version fails on these items.
        """
        version = self._versions.get(key)
        if version is None:
            raise ServingError("The version is not loaded any more.")
        reply, numbers = self._ask(version, items)
        if "failed" in reply:
            raise ServingError(f"The version failed on a text: {reply['failed']}.")
        return _answers(reply["answers"], numbers)

    def _ask(self, version: _Version, items: Sequence[Any]) -> tuple[Any, memoryview]:
        """Ask, and ask once more where the worker was lost over it."""
        tries = attempts = 0
        while True:
            try:
                worker = version.take(self.most_seconds)
                try:
                    return worker.ask(items)
                except OSError as error:
                    if self._stopping or version.is_dropped:
                        raise
                    self._replace(version, worker, error)
                    attempts += 1
                    tries += not isinstance(error, _Overtaken)
                    if tries > 1 or attempts == _MOST_ATTEMPTS:
                        raise
                finally:
                    version.give_back(worker)
            except Silent as error:
                raise WorkerSilent(
                    f"The workers of the server do not answer: {error}.",
                    hint="Send the request again; the server's log says which were replaced.",
                ) from error
            except OSError as error:
                raise ServingError(
                    f"A worker of the server ended: {error}.",
                    hint="Send the request again; the server's log may say more.",
                ) from error

    def _replace(self, version: _Version, worker: _Worker, error: OSError) -> None:
        """Let the host fork another worker; where the host is gone too, load the version again.

        The first of those who had asked the worker does it; the others find that it was done.
        """
        with version.mending:
            with version.changed:
                if worker not in version.workers:
                    return
                worker.is_lost = True
                version.workers.remove(worker)
            is_silent = isinstance(error, Silent)
            if is_silent:
                worker.kill()
            with contextlib.suppress(OSError):
                worker.data.shutdown(socket.SHUT_RDWR)
            other = worker  # where none can be made, the next one to ask tries again
            try:
                other, code = self._fork(version, worker.pid)
            finally:
                version.add(other)
        facts = {"pid": worker.pid, "other": other.pid, "code": code}
        if is_silent:
            _log.error(
                "worker did not answer and was killed; another was started",
                extra={**facts, "why": str(error)},
            )
        else:
            _log.error("worker ended; another was started", extra=facts)
        self.on_replaced("silent" if is_silent else "ended")

    def _fork(self, version: _Version, died: int) -> tuple[_Worker, int | None]:
        """Get another worker of a version; give it, and how the former one ended."""
        ours, theirs = socket.socketpair()
        watch = functools.partial(ProcessWatch, version.host_pid)
        try:
            with theirs:
                send(version.host, {"died": died}, watch)
                send_sockets(version.host, [theirs])
            reply = receive(version.host, watch)
        except OSError as error:
            ours.close()
            version.host.close()
            if isinstance(error, Silent):
                _log.error(
                    "the process that loaded the version did not answer and was killed",
                    extra={"pid": version.host_pid, "why": str(error)},
                )
                _kill(version.host_pid)
            other, _ = self._host({**version.order, "beside": True}, 1)
            version.host, version.host_pid = other.host, other.host_pid
            return other.workers[0], None
        return _Worker(ours, reply["pid"], self.most_seconds), reply["code"]

    def _host(self, order: Mapping[str, Any], workers: int) -> tuple[_Version, dict[str, Any]]:
        """Have a version loaded; give it with its host and its workers, and facts.

        A host that ends or stands still meanwhile is replaced once.

        Raises:
            ServingError: When the version cannot be loaded.
        """
        for _ in range(2):
            pairs = [socket.socketpair() for _ in range(workers + 1)]
            host, *data = (ours for ours, _ in pairs)
            bound_waits(host, LOOK_SECONDS)
            pid = None
            try:
                self._send({**order, "workers": workers}, [theirs for _, theirs in pairs])
                for _, theirs in pairs:
                    theirs.close()
                pid = int(receive(host, _loading(self._server_pid))["pid"])
                reply: dict[str, Any] = receive(host, _loading(pid))
            except OSError as error:
                for pair in pairs:
                    for each in pair:
                        each.close()
                if isinstance(error, Silent):
                    self._end_loading(pid, error)
                continue
            if "what" in reply:
                for ours, _ in pairs:
                    ours.close()
                raise ServingError(reply["what"], where=reply["where"], hint=reply.get("hint"))
            made = [
                _Worker(ours, number, self.most_seconds)
                for ours, number in zip(data, reply["pids"], strict=True)
            ]
            return _Version(order, host, pid, made), reply
        # Twice in a row: the version itself may be what ends it.
        raise ServingError(
            "A worker of the server ended while it loaded the version.",
            where=str(order["folder"]),
            hint="The server's log may say why; roll back, or give it more memory.",
        )

    def _end_loading(self, host: int | None, error: Silent) -> None:
        """Kill a host that stands still while it loads, or the fork server that makes none."""
        pid = self._server_pid if host is None else host
        _log.error(
            "a process that loads a version did not answer and was killed",
            extra={"pid": pid, "why": str(error)},
        )
        _kill(pid)
        if host is None and self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)

    @property
    def _server_pid(self) -> int:
        return 0 if self._process is None else self._process.pid

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
        return self._pool.ask_worker(self._key, list(inputs))

    def answer_ids(self, encodings: Sequence[Encoding]) -> list[Answer]:
        """Answer ids that the client made itself."""
        items = [{"ids": encoding.input_ids} for encoding in encodings]
        return self._pool.ask_worker(self._key, items)

    def close(self) -> None:
        """Let the workers forget the version."""
        self._pool.drop(self._key)


def _answers(values: Sequence[Mapping[str, Any]], numbers: memoryview) -> list[Answer]:
    """Put answers together from what JSON holds of them and from their numbers."""
    import numpy as np

    from contlearn.inference.predictor import Answer

    floats, at = np.frombuffer(numbers, dtype="<f4"), 0
    answers = []
    for value in values:
        shape, size = value["logits"], value["projection"]
        middle = at + math.prod(shape)
        logits, projection = floats[at:middle], floats[middle : middle + size]
        at = middle + size
        confidence = value["confidence"]
        prediction = Prediction(
            value=value["value"],
            target=target_from_json(value["target"]),
            labels=tuple(value["labels"]),
            confidence=None if confidence is None else float(confidence),
            key=value["key"],
        )
        answers.append(
            Answer(
                prediction=prediction,
                logits=logits if len(shape) == 1 else logits.reshape(shape),
                projection=projection,
                tokens=value["tokens"],
                truncated=value["truncated"],
                unknown_pieces=value["unknown_pieces"],
            )
        )
    return answers


def _loading(pid: int) -> Callable[[], ProcessWatch]:
    return lambda: ProcessWatch(pid, still_seconds=_STILL_LOADING_SECONDS)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
