"""All models of one server, what computes for them, and who may change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from contlearn.errors import ConfigError
from contlearn.serving.compute.engine import Engine
from contlearn.serving.compute.pool import WorkerPool
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.service import Service
from contlearn.serving.settings import ServerSettings
from contlearn.telemetry.server_metrics import Instruments
from contlearn.telemetry.traces import Traces, configured_traces

__all__ = ["Site"]


@dataclass
class Site:
    """The models by name; the first one answers where no model is named.

    Args:
        settings: Of each model. Workers and tokens are those of the first.
        registry: Where metrics appear.
    Raises:
        ConfigError: When two models have one name.
    """

    settings: Sequence[ServerSettings]
    registry: CollectorRegistry
    instruments: Instruments = field(init=False)
    engine: Engine = field(init=False)
    services: dict[str, Service] = field(default_factory=dict, init=False)
    # The processes that compute; None when threads of this one do.
    pool: WorkerPool | None = field(default=None, init=False)
    traces: Traces | None = field(default_factory=configured_traces, init=False)

    def __post_init__(self) -> None:
        self.instruments = Instruments(self.registry)
        limits = self.settings[0].engine
        self.engine = Engine(limits.workers * limits.ahead)
        for settings in self.settings:
            if settings.name in self.services:
                raise ConfigError(
                    f"Two models have the name {settings.name!r}.",
                    where=f"{self.services[settings.name].settings.folder} and {settings.folder}",
                    hint="Give one another name: model.name in contlearn.toml.",
                )
            self.services[settings.name] = Service(settings, self.instruments, self.engine)

    @property
    def folders(self) -> list[Path]:
        """Give where the models lie, which no client is told."""
        return [service.settings.folder for service in self.services.values()]

    def refresh(self) -> None:
        """Take up files of tokens that have changed."""
        self.settings[0].tokens.refresh()

    @property
    def first(self) -> Service:
        """Give the model that answers where none is named."""
        return next(iter(self.services.values()))

    def service(self, name: str | None) -> Service:
        """Give a model by its name.

        Raises:
            RequestProblem: 404 when there is none.
        """
        if name is None:
            return self.first
        service = self.services.get(name)
        if service is None:
            raise RequestProblem(
                404,
                f"There is no model {name[:100]!r}.",
                where="path",
                hint=f"This server has {', '.join(map(repr, self.services))}.",
            )
        return service

    def start(self) -> None:
        """Start everything; called on the event loop."""
        self.engine.start()
        for service in self.services.values():
            service.start()

    def stop(self) -> None:
        """Stop it again, after the last answer."""
        for service in self.services.values():
            service.follower.stop()
        self.engine.stop()
        for service in self.services.values():
            service.stop()

    @property
    def draining(self) -> bool:
        """Say whether the server is leaving."""
        return self.first.draining

    def drain(self) -> None:
        """Begin to leave: nothing is ready any more."""
        for service in self.services.values():
            service.draining = True

    @property
    def alive(self) -> bool:
        """Say whether every champion is still followed."""
        return all(service.follower.alive for service in self.services.values())

    @property
    def is_ready(self) -> bool:
        """Say whether every model can answer."""
        return all(service.is_ready for service in self.services.values())
