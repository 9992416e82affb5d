"""`contlearn config show` and `contlearn config schema`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result
from contlearn.redaction import redact_config


@click.group("config", help="Show the configuration and its schema.")
def command() -> None:
    """Group the two commands."""


@command.command("show", help="Print every value with its origin; passwords and tokens as ***.")
@json_option
@pass_settings
def show(settings: Settings, as_json: bool) -> None:
    """Print the checked configuration."""
    with settings.open() as context:
        values = redact_config(context.config.model_dump(mode="json"))
        origins = context.origins

    def human() -> None:
        from contlearn.cli.output import table

        table(
            ["key", "value", "from"],
            [
                (key, json.dumps(value, ensure_ascii=False), origins.get(key, "default"))
                for key, value in _leaves(values)
            ],
        )

    origin_of = {key: origins.get(key, "default") for key, _ in _leaves(values)}
    print_result({"config": values, "origins": origin_of}, as_json=as_json, human=human)


@command.command("schema", help="Print the JSON Schema of contlearn.toml.")
def schema() -> None:
    """Print the schema; always JSON."""
    from contlearn.config import Config

    value = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "contlearn.toml",
        **Config.model_json_schema(),
    }
    click.echo(json.dumps(value, indent=1))


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
