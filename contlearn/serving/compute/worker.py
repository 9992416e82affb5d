"""The processes that compute: `python -m contlearn.serving.compute.worker CONTROL`, a descriptor.

That process is a fork server: it has everything imported and holds no model. For each version it
forks a host, which loads the version, checks it, and forks the workers that answer. They share the
memory of their host: a version is loaded once, and its weights lie in the processor's cache once,
however many cores read them. A host ends when the server lets go of its version, and its memory
with it; all end when the server's side of their connection is closed, however the server ended.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from contlearn.errors import ContlearnError
from contlearn.plugins.manager import PluginManager
from contlearn.serving.compute.memory import keep_memory_together, quiet_collector
from contlearn.serving.compute.messages import Channel, receive, receive_sockets, send
from contlearn.serving.versions.loading import LOAD_NICE, CheckedLoader
from contlearn.telemetry.logs import configure_logs
from contlearn.types import Encoding

if TYPE_CHECKING:
    from contlearn.inference.predictor import Answer, OnnxPredictor

__all__ = ["ForkServer", "VersionHost", "main"]

_log = logging.getLogger("contlearn.serving")
# How long a worker that was told to end may take, and how long one that ended until it is seen.
_END_SECONDS: Final = 5.0
_EXIT_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.02


class ForkServer:
    """Forks a host for each version. It has one thread only, and so have the hosts when they fork.

    Args:
        manager: Knows the tasks.
        intra_threads: Cores that one run is spread over.
    """

    def __init__(self, manager: PluginManager, intra_threads: int) -> None:
        self._manager = manager
        self._intra_threads = intra_threads

    def serve(self, control: socket.socket) -> None:
        """Take orders until the server is gone."""
        while True:
            order = receive(control)
            connections = receive_sockets(control, order["workers"] + 1)

            def host(
                order: Mapping[str, Any] = order,
                connections: Sequence[socket.socket] = connections,
            ) -> None:
                control.close()  # or nobody would notice that the fork server ended
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host asks how its workers ended
                made = VersionHost(self._manager, self._intra_threads, connections[0])
                try:
                    made.serve(order, connections[1:])
                finally:
                    made.end_workers()

            _fork(host)
            for connection in connections:
                connection.close()


class VersionHost:
    """Loads one version, forks the workers that answer with it, and another for one that died.

    Args:
        manager: Knows the tasks.
        intra_threads: Cores that one run is spread over.
        control: Where the server asks for another worker.
    """

    def __init__(self, manager: PluginManager, intra_threads: int, control: socket.socket) -> None:
        self._manager = manager
        self._intra_threads = intra_threads
        self._control = control
        self._loaded: OnnxPredictor | dict[str, Any] = {}
        self._pids: set[int] = set()

    def serve(self, order: Mapping[str, Any], connections: Sequence[socket.socket]) -> None:
        """Load as ordered, fork a worker for each connection, and replace those that die."""
        send(self._control, {"pid": os.getpid()})  # so that one that stands still can be killed
        loading = threading.Thread(target=self._load, args=(order,))
        loading.start()
        loading.join()
        loaded = self._loaded
        if isinstance(loaded, dict):
            send(self._control, loaded)
            return
        # What is there now stays as it is: pages that nobody writes to are shared.
        quiet_collector()
        waiting = list(connections)
        pids = []
        while waiting:
            connection = waiting.pop(0)
            pids.append(self._worker(loaded, connection, waiting))
        facts = {
            "task": loaded.task.name,
            "task_options": loaded.task_options,
            "labels": list(loaded.label_space.names),
            "max_tokens": loaded.max_tokens,
            "temperature": loaded.temperature,
            "precision": loaded.precision,
            "graph_inputs": list(loaded.graph_inputs),
            "vocabulary_size": loaded.vocabulary_size,
        }
        send(self._control, {**facts, "pids": pids})
        while True:
            died = receive(self._control)["died"]
            (connection,) = receive_sockets(self._control, 1)
            code = self._exit_code(died)
            send(self._control, {"pid": self._worker(loaded, connection, ()), "code": code})

    def _load(self, order: Mapping[str, Any]) -> None:
        """Load the version, or note why it cannot be; in a thread of its own for its priority."""
        if order["beside"]:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOAD_NICE)
        folder = Path(order["folder"])
        key = None if order["signed_by"] is None else Path(order["signed_by"])
        try:
            self._loaded = CheckedLoader(self._manager, public_key=key)(folder)
        except ContlearnError as error:
            self._loaded = {"what": error.what, "where": error.where, "hint": error.hint}
        except Exception as error:
            _log.exception("worker failed to load")
            what = f"The version cannot be loaded: {error}."
            self._loaded = {"what": what, "where": str(folder)}

    def _worker(
        self,
        predictor: OnnxPredictor,
        connection: socket.socket,
        others: Sequence[socket.socket],
    ) -> int:
        """Fork a worker for a connection; give its process id."""

        def work() -> None:
            self._control.close()
            for other in others:  # or the server would not notice that their worker ended
                other.close()
            if self._intra_threads > 1:  # threads do not survive a fork: they are made here
                predictor.spread(self._intra_threads)
            _answer(predictor, connection)

        pid = _fork(work)
        self._pids.add(pid)
        connection.close()
        return pid

    def _exit_code(self, pid: int) -> int | None:
        """Ask how a worker ended; None for one that is still about to end."""
        if pid not in self._pids:
            return None  # another host's, which is gone
        status = _status(pid, _EXIT_SECONDS)
        if status is not None:
            self._pids.discard(pid)
        return status

    def end_workers(self) -> None:
        """Take note of the end of each, or they would stay in the system's table.

        One that stands still does not see that it is wanted no more: it is killed.
        """
        for pid in self._pids:
            if _status(pid, _END_SECONDS) is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _status(pid, _EXIT_SECONDS)


def _fork(work: Callable[[], None]) -> int:
    """Fork a process that does one thing and ends; give its id."""
    pid = os.fork()
    return pid if pid else _end_after(work)


def _end_after(work: Callable[[], None]) -> NoReturn:
    code = 0
    try:
        work()
    except ConnectionError:
        pass  # the server is gone, or has let go of the version
    except BaseException:
        _log.exception("worker failed")
        code = 1
    # What the parent registered to be done at its end is not this process's to do.
    os._exit(code)


def _status(pid: int, seconds: float) -> int | None:
    """Give the exit code of a child that has ended or ends within so many seconds, else None."""
    until = time.monotonic() + seconds
    while True:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(_LOOK_SECONDS)


def _answer(predictor: OnnxPredictor, data: socket.socket) -> None:
    """Answer one message after the other, until the server is gone."""
    import numpy as np

    channel = Channel(data)
    while True:
        items, _ = channel.receive()
        numbers = b""
        try:
            answers = _answers(predictor, items)
            reply: dict[str, Any] = {"answers": [_plain(answer) for answer in answers]}
            numbers = b"".join(
                np.ascontiguousarray(array, dtype="<f4").tobytes()
                for answer in answers
                for array in (answer.logits, answer.projection)
            )
        except Exception as error:
            # The server decides what a failed answer means; here it only must not end the loop.
            _log.exception("worker failed on a request")
            reply = {"failed": f"{type(error).__name__}: {error}"}
        send(data, reply, tail=numbers)


def _answers(predictor: OnnxPredictor, items: Sequence[Any]) -> list[Answer]:
    if items and "ids" in items[0]:
        encodings = [
            Encoding(input_ids=tuple(i["ids"]), word_starts=tuple(range(len(i["ids"]))))
            for i in items
        ]
        return predictor.answer_ids(encodings)
    inputs: list[Mapping[str, Any]] = [
        {name: value if isinstance(value, str) else tuple(value) for name, value in item.items()}
        for item in items
    ]
    return predictor.predict_detailed(inputs)


def _plain(answer: Answer) -> dict[str, Any]:
    prediction = answer.prediction
    confidence: float | str | None = prediction.confidence
    if confidence is not None and not math.isfinite(float(confidence)):
        confidence = "nan"  # JSON has none, and a null says that the task has no confidence
    return {
        "value": prediction.value,
        "target": prediction.target,
        "labels": prediction.labels,
        "confidence": confidence,
        "key": prediction.key,
        # How many numbers follow; they are sent as bytes.
        "logits": answer.logits.shape,
        "projection": len(answer.projection),
        "tokens": answer.tokens,
        "truncated": answer.truncated,
        "unknown_pieces": answer.unknown_pieces,
    }


def main() -> None:
    """Serve one server until it is gone."""
    # The server drains first; its end is what ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # hosts that end leave nothing behind
    control = socket.socket(fileno=int(sys.argv[1]))
    configure_logs("WARNING")
    keep_memory_together()
    with contextlib.suppress(ConnectionError):
        options = receive(control)
        folder = options["plugins_dir"]
        manager = PluginManager(
            folder=Path(folder) if folder else None, blocked=options["blocked"], quiet=True
        )
        # Imported now, and once: no version should wait for it.
        import numpy  # noqa: F401, ICN001  # for its effect
        import onnxruntime  # noqa: F401  # for its effect
        import tokenizers  # noqa: F401  # for its effect

        import contlearn.inference.predictor  # noqa: F401  # for its effect

        gc.freeze()
        ForkServer(manager, options["intra_threads"]).serve(control)


if __name__ == "__main__":
    main()
