"""What every route shares: the follower, the engine, reading inputs, logging answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contlearn.errors import ContlearnError, ServingError
from contlearn.interfaces import RowProblem
from contlearn.monitoring.prediction_log import LoggedPrediction
from contlearn.serving.compute.engine import Engine, Lane, VersionRetired
from contlearn.serving.http.feedback import FeedbackDesk
from contlearn.serving.http.known_labels import WorkspaceLabels
from contlearn.serving.http.problems import RequestProblem, not_ready
from contlearn.serving.http.request_ids import is_client_id, new_id
from contlearn.serving.settings import ServerSettings
from contlearn.serving.versions.champion import ChampionFollower
from contlearn.serving.versions.shelf import Shelf
from contlearn.serving.versions.trials import Trials
from contlearn.serving.versions.version import (
    Answer,
    Item,
    LoadedVersion,
)
from contlearn.telemetry.server_metrics import Instruments, ServerMetrics
from contlearn.telemetry.traces import traced_part
from contlearn.types import Encoding, Inputs

__all__ = ["ReadTexts", "Service"]


class ReadTexts(NamedTuple):
    """The texts of a request that can be used, and what is wrong with the others, by place."""

    inputs: list[Inputs]
    lengths: list[int]
    places: list[int]
    problems: dict[int, RequestProblem]


@dataclass
class Service:
    """One model being served. Routes ask it; it knows nothing of HTTP messages.

    Args:
        settings: The model's.
        instruments: The metrics of the server.
        engine: Computes; models share it.
    """

    settings: ServerSettings
    instruments: Instruments
    engine: Engine
    metrics: ServerMetrics = field(init=False)
    follower: ChampionFollower = field(init=False)
    shelf: Shelf = field(init=False)
    trials: Trials = field(init=False)
    lane: Lane = field(init=False)
    desk: FeedbackDesk | None = field(default=None, init=False)
    draining: bool = field(default=False, init=False)
    requests: int = field(default=0, init=False)
    started_at: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.metrics = ServerMetrics(self.instruments, settings.name)
        self.follower = ChampionFollower(
            settings.folder,
            settings.load,
            self.metrics,
            settings.clock,
            poll_seconds=settings.poll_seconds,
            drain_seconds=settings.drain_seconds,
            leases=settings.leases,
        )
        self.shelf = Shelf(
            settings.folder,
            settings.versions,
            settings.load,
            settings.clock,
            self._champion_number,
            poll_seconds=settings.poll_seconds,
            drain_seconds=settings.drain_seconds,
            leases=settings.leases,
            roles=settings.roles.read(),
        )
        self.lane = self.engine.lane(settings.engine, self.metrics)
        self.trials = Trials(
            self.shelf,
            self.engine.lane(settings.engine, is_background=True),
            self.metrics,
            settings.roles,
            settings.shadow_log,
        )
        if settings.inbox is not None:
            self.desk = FeedbackDesk(
                settings.inbox, settings.task, settings.fields, labels=settings.labels
            )
            if isinstance(settings.labels, WorkspaceLabels):
                settings.labels.served = self._served_labels
        if settings.log is not None:
            settings.log.written = self.metrics.log_written
            settings.log.dropped = self.metrics.log_dropped

    def start(self) -> None:
        """Start follower, shelf and logs; called on the event loop."""
        self.settings.claimed_ids.start()
        self.follower.start()
        self.shelf.start()
        for log in (self.settings.log, self.settings.shadow_log):
            if log is not None:
                log.start()

    def stop(self) -> None:
        """Stop them again, after the last answer."""
        self.follower.stop()
        self.shelf.stop()
        for log in (self.settings.log, self.settings.shadow_log):
            if log is not None:
                log.close()
        self.settings.claimed_ids.close()
        if self.settings.labels is not None:
            self.settings.labels.close()

    @property
    def is_ready(self) -> bool:
        """Say whether a version can answer."""
        return (
            self.follower.current is not None
            and not self.draining
            and self.follower.alive
            and not self.engine.is_stuck
        )

    @property
    def problem(self) -> ContlearnError | None:
        """Give what keeps the model from answering, or the promoted version from being loaded."""
        if self.engine.is_stuck:
            return ServingError(
                f"No worker has answered for {self.engine.silent_seconds:.0f} s.",
                where="workers of the server",
                hint="Worker processes that stand still are replaced by themselves, which the log "
                "and contlearn_workers_replaced_total show; if it goes on, restart the server.",
            )
        return self.follower.problem

    def _champion_number(self) -> int | None:
        current = self.follower.current
        return None if current is None else current.number

    def _served_labels(self) -> Sequence[str]:
        current = self.follower.current
        return () if current is None else current.label_names

    def version(self, number: int | None = None) -> LoadedVersion:
        """Give the version that answers now.

        Raises:
            RequestProblem: When there is none, or another number is asked for.
        """
        current = self.follower.current
        if current is None:
            problem = self.follower.problem
            if problem is not None:
                raise RequestProblem(
                    503,
                    problem.what,
                    where=problem.where,
                    hint=problem.hint,
                    reason="not_ready",
                    retry_after_seconds=5,
                )
            raise not_ready(f"model {self.settings.name!r}")
        if number is None or number == current.number:
            return current
        further = self.shelf.loaded.get(number)
        if further is not None:
            return further
        raise RequestProblem(
            404,
            f"Version {number} of {self.settings.name!r} is not served; "
            f"version {current.number} is.",
            where="path",
            hint="Leave /versions/… out to ask whatever version is served, or name it in "
            "serving.also_versions.",
        )

    def versions(self) -> list[LoadedVersion]:
        """Give all versions that can be asked, the champion first."""
        current = self.follower.current
        others = [v for _, v in sorted(self.shelf.loaded.items()) if v is not current]
        return others if current is None else [current, *others]

    def read_inputs(self, rows: Sequence[object], *, name: str) -> ReadTexts:
        """Check the inputs of one request, all of them.

        A text that cannot be used fails only itself, where there are others.

        Args:
            rows: Texts, or objects with the task's fields.
            name: The request's field, for messages.
        Raises:
            RequestProblem: When the request is not of this form, or none of its texts can be used.
        """
        limits = self.settings.limits
        if len(rows) > limits.texts:
            raise RequestProblem(
                413,
                f"There are {len(rows)} texts; at most {limits.texts} are taken at once.",
                where=name,
                hint="Send them in several requests, or raise serving.max_texts.",
                reason="too_large",
            )
        read = ReadTexts([], [], [], {})
        for place, row in enumerate(rows):
            where = f"{name}[{place}]"
            if not isinstance(row, str | dict):
                raise RequestProblem(
                    400,
                    f"Item {place} is neither a text nor an object.",
                    where=where,
                    hint=f"Send {name} as a list of texts.",
                )
            try:
                item, length = self._read_input(row, where)
            except RequestProblem as problem:
                read.problems[place] = problem
                continue
            read.inputs.append(item)
            read.lengths.append(length)
            read.places.append(place)
        if read.problems and not read.inputs:
            raise next(iter(read.problems.values()))
        return read

    def _read_input(self, row: str | dict[str, object], where: str) -> tuple[Inputs, int]:
        settings, limits = self.settings, self.settings.limits
        try:
            item = settings.task.read_inputs(row, settings.fields)
        except RowProblem as problem:
            raise RequestProblem(
                400, problem.message, where=where, hint=problem.hint or None
            ) from problem
        length = len(settings.task.text_of(item))
        if length > limits.text_characters or any(
            not isinstance(value, str) and len(value) > limits.words for value in item.values()
        ):
            raise RequestProblem(
                413,
                f"The text has {length} characters; at most {limits.text_characters} "
                f"(and {limits.words} words in a list) are taken.",
                where=where,
                hint="Shorten it; the model reads only its first part anyway.",
                reason="too_large",
            )
        return item, length

    async def serve_request(
        self,
        inputs: Sequence[Item],
        lengths: Sequence[int],
        *,
        request_id: str,
        places: Sequence[int] | None = None,
        number: int | None = None,
        wish: str | None = None,
        deadline_seconds: float | None = None,
        gone: Callable[[], asyncio.Future[Any]] | None = None,
    ) -> tuple[LoadedVersion, list[Answer], str]:
        """Answer, count and log.

        Args:
            inputs: What is asked.
            lengths: The length of each.
            request_id: Names the request, unless another request had this id before.
            places: Where each stands in the request, if some of it cannot be used.
            number: The version asked for; whichever answers now if left out.
            wish: What the client says about the canary: always, never, or a key that decides.
            deadline_seconds: At most this long.
            gone: Starts to wait for the client to go away.
        Returns:
            The version that answered, its answers, and the id that the request has.
        """
        self.requests += 1
        self.metrics.in_flight.inc()

        async def ask(version: LoadedVersion) -> list[Answer]:
            with traced_part("infer"):
                return await self.lane.compute(
                    version, inputs, lengths=lengths, deadline_seconds=deadline_seconds, gone=gone
                )

        try:
            while True:
                champion = self.version(number)
                try:
                    version, answers = await self.trials.try_canary(
                        champion,
                        ask,
                        texts=len(inputs),
                        may_try=number is None,
                        key=request_id,
                        wish=wish,
                    )
                    break
                except VersionRetired:
                    continue
        finally:
            self.metrics.in_flight.dec()
        # Only what was answered has its id: a request that was turned away may come again.
        request_id = self._own(request_id)
        if any(isinstance(item, Encoding) for item in inputs):
            return version, answers, request_id  # without texts there is nothing to log or to label
        texts = [item for item in inputs if not isinstance(item, Encoding)]
        places = range(len(texts)) if places is None else places
        if self.desk is not None and self.settings.tokens.has("feedback"):
            by_place = dict(zip(places, texts, strict=True))
            self.desk.recent.keep(request_id, by_place, sum(lengths))
        self._note(version, texts, lengths, answers, request_id, places)
        if number is None:
            self.trials.show(version, texts, lengths, answers, request_id, places)
        return version, answers, request_id

    def _own(self, request_id: str) -> str:
        """Give the id if this request is the first to have it, else one of ours."""
        if not is_client_id(request_id):
            return request_id
        is_kept = self.desk is not None and self.desk.recent.has(request_id)
        if is_kept or not self.settings.claimed_ids.claim(request_id):
            return new_id()
        return request_id

    def _note(
        self,
        version: LoadedVersion,
        inputs: Sequence[Inputs],
        lengths: Sequence[int],
        answers: Sequence[Answer],
        request_id: str,
        places: Sequence[int],
    ) -> None:
        metrics, log = self.metrics, self.settings.log
        now = time.time()
        counts: dict[str, int] = {}
        for index, answer in enumerate(answers):
            labels = answer.prediction.labels
            confidence = answer.prediction.confidence
            for label in labels:
                counts[label] = counts.get(label, 0) + 1
            if confidence is not None:
                metrics.confidence.observe(confidence)
            if answer.truncated:
                metrics.truncated.inc()
            if answer.is_unknown:
                metrics.unknown.inc()
            if log is not None:
                log.add(
                    LoggedPrediction(
                        time=now,
                        request_id=request_id,
                        index=places[index],
                        version=version.number,
                        labels=labels,
                        answer=answer.prediction.key,
                        confidence=confidence,
                        is_unknown=answer.is_unknown,
                        characters=lengths[index],
                        tokens=answer.tokens,
                        unknown_ratio=answer.unknown_ratio,
                        projection=answer.projection,
                        logits=answer.logits,
                        text=self.settings.task.text_of(inputs[index]),
                        keep_text=self.settings.log_text,
                    )
                )
        for label, number in counts.items():
            metrics.answered(label, number)

    def facts(self) -> Mapping[str, Any]:
        """Give what the page and the readiness answer show."""
        current, problem = self.follower.current, self.problem
        return {
            "model": self.settings.name,
            "task": self.settings.task.name,
            "ready": self.is_ready,
            "draining": self.draining,
            "version": None if current is None else current.number,
            "labels": [] if current is None else list(current.label_names),
            "loaded_at": None if current is None else current.loaded_at,
            "problem": None if problem is None else problem.to_json(),
            "waiting_texts": self.lane.waiting,
            **self.trials.facts(),
            "requests": self.requests,
            "uptime_seconds": round(time.monotonic() - self.started_at, 1),
        }
