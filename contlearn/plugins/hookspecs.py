"""Every hook of contlearn. A plugin is a module with functions marked `hookimpl`.

Registration hooks return classes; each class carries `name`, `summary` and, where it has options,
`Options` (a pydantic model that refuses unknown keys). Heavy libraries are imported inside methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import click

    from contlearn.types import Event

PROJECT: Final = "contlearn"
EVENT_KINDS: Final = (
    "ingested",
    "cycle-started",
    "cycle-state",
    "cycle-ended",
    "promoted",
    "rolled-back",
    "recovered",
    "records-held",
    "labels-doubted",
    "records-released",
    "records-forgotten",
    "probation-passed",
    "alert",
)

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def contlearn_register_tasks() -> list[type]:
    """Give task classes (`contlearn.interfaces.Task`)."""
    return []


@hookspec
def contlearn_register_strategies() -> list[type]:
    """Give strategy classes: how a model learns an experience."""
    return []


@hookspec
def contlearn_register_regularizers() -> list[type]:
    """Give regulariser classes: penalties that any strategy can be combined with."""
    return []


@hookspec
def contlearn_register_buffers() -> list[type]:
    """Give replay buffer classes (`contlearn.interfaces.ReplayBuffer`)."""
    return []


@hookspec
def contlearn_register_parsers() -> list[type]:
    """Give record parser classes (`contlearn.interfaces.RecordParser`), one a file format."""
    return []


@hookspec
def contlearn_register_gate_rules() -> list[type]:
    """Give gate rule classes (`contlearn.interfaces.GateRule`)."""
    return []


@hookspec
def contlearn_register_detectors() -> list[type]:
    """Give drift detector classes (`contlearn.monitoring.detectors.Detector`)."""
    return []


@hookspec
def contlearn_register_commands(cli: click.Group) -> None:
    """Add commands to the `contlearn` program."""


@hookspec
def contlearn_on_event(event: Event) -> None:
    """Hear of an event after it happened. An error here is logged and counted, nothing more."""
