"""A process that computes: python -m contlearn.serving.worker DATA CONTROL (file descriptors).

On one connection it answers, on the other it loads and drops versions meanwhile. It ends when the
server's side of the first is closed, however the server ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.errors import ContlearnError
from contlearn.plugins.manager import PluginManager
from contlearn.serving.loading import LOAD_NICE, CheckedLoader
from contlearn.serving.memory import keep_memory_together, quiet_collector, release_memory
from contlearn.serving.messages import receive, send
from contlearn.telemetry.logs import configure_logs
from contlearn.types import Encoding, EntityPrediction

if TYPE_CHECKING:
    from contlearn.inference.predictor import Answer, OnnxPredictor

__all__ = ["Worker", "main"]

_log = logging.getLogger("contlearn.serving")


class Worker:
    """Holds versions by key and answers with them.

    Args:
        manager: Knows the tasks.
        intra_threads: Cores that one run is spread over.
    """

    def __init__(self, manager: PluginManager, intra_threads: int) -> None:
        self._manager = manager
        self._intra_threads = intra_threads
        self._loaders: dict[str | None, CheckedLoader] = {}
        self._versions: dict[str, OnnxPredictor] = {}

    def serve(self, data: socket.socket) -> None:
        """Answer one message after the other, until the server is gone."""
        while True:
            message = receive(data)
            predictor = self._versions.get(message["key"])
            if predictor is None:
                send(data, {"unknown": True})
                continue
            try:
                reply: dict[str, Any] = {"answers": _answers(predictor, message["items"])}
            except Exception as error:
                # The server decides what a failed answer means; here it only must not end the loop.
                _log.exception("worker failed on a request")
                reply = {"failed": f"{type(error).__name__}: {error}"}
            send(data, reply)

    def follow(self, control: socket.socket) -> None:
        """Load and drop as told; at low priority once something answers."""
        while True:
            message = receive(control)
            key = message["key"]
            if message["what"] == "drop":
                predictor = self._versions.pop(key, None)
                if predictor is not None:
                    predictor.close()
                    del predictor
                    release_memory()
                send(control, {})
                continue
            if self._versions:
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOAD_NICE)
            folder = Path(message["folder"])
            send(control, self._take(key, folder, message["signed_by"]))

    def _take(self, key: str, folder: Path, signed_by: str | None) -> dict[str, Any]:
        try:
            load = self._loaders.get(signed_by)
            if load is None:
                public = None if signed_by is None else Path(signed_by)
                load = CheckedLoader(self._manager, self._intra_threads, public)
                self._loaders[signed_by] = load
            predictor = load(folder)
        except ContlearnError as error:
            return {"what": error.what, "where": error.where, "hint": error.hint}
        except Exception as error:
            _log.exception("worker failed to load")
            return {"what": f"The version cannot be loaded: {error}.", "where": str(folder)}
        is_first = not self._versions
        self._versions[key] = predictor
        if is_first:
            quiet_collector()
        return {
            "task": predictor.task.name,
            "labels": list(predictor.label_space.names),
            "max_tokens": predictor.max_tokens,
            "temperature": predictor.temperature,
            "precision": predictor.precision,
            "graph_inputs": list(predictor.graph_inputs),
            "vocabulary_size": predictor.vocabulary_size,
        }


def _answers(predictor: OnnxPredictor, items: Sequence[Any]) -> list[dict[str, Any]]:
    if items and "ids" in items[0]:
        encodings = [
            Encoding(input_ids=tuple(i["ids"]), word_starts=tuple(range(len(i["ids"]))))
            for i in items
        ]
        return [_plain(answer) for answer in predictor.answer_ids(encodings)]
    inputs: list[Mapping[str, Any]] = [
        {name: value if isinstance(value, str) else tuple(value) for name, value in item.items()}
        for item in items
    ]
    return [_plain(answer) for answer in predictor.predict_detailed(inputs)]


def _plain(answer: Answer) -> dict[str, Any]:
    prediction = answer.prediction
    value: dict[str, Any] = {
        "prediction": prediction.to_json(),
        "logits": answer.logits,
        "projection": answer.projection,
        "tokens": answer.tokens,
        "truncated": answer.truncated,
        "unknown_pieces": answer.unknown_pieces,
    }
    if isinstance(prediction, EntityPrediction):
        value["tags"] = list(prediction.tags)
    return value


def main() -> None:
    """Serve one server until it is gone."""
    # The server drains first; its end is what ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    data, control = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    configure_logs("WARNING")
    keep_memory_together()
    with contextlib.suppress(ConnectionError, BrokenPipeError):
        options = receive(control)
        folder = options["plugins_dir"]
        manager = PluginManager(folder=Path(folder) if folder else None, blocked=options["blocked"])
        worker = Worker(manager, options["intra_threads"])
        # Imported now: the first version should not wait for it.
        import contlearn.inference.predictor  # noqa: F401  # for its effect

        def follow() -> None:
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                worker.follow(control)

        threading.Thread(target=follow, name="control", daemon=True).start()
        worker.serve(data)


if __name__ == "__main__":
    main()
