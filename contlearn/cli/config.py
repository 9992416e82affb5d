"""`contlearn config show`, `config explain` and `config schema`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result
from contlearn.redaction import redact_config


@click.group("config", help="Show and explain the configuration.")
def command() -> None:
    """Group the commands."""


def _complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    from contlearn.config.keys import all_keys, parts

    names = [part.name for part in parts()] + [key.path for key in all_keys()]
    return [name for name in names if name.startswith(typed)]


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


@command.command("explain", help="Say what a key does; KEY is training.epochs, or a section.")
@click.argument("key", required=False, shell_complete=_complete)
@json_option
def explain_key(key: str | None, as_json: bool) -> None:
    """Print the description of a key or section; without a name, the sections."""
    from contlearn.cli.output import heading, table
    from contlearn.config.keys import explain, parts

    if key is None:
        found = list(parts())
        print_result(
            [{"section": part.name, "summary": part.summary} for part in found],
            as_json=as_json,
            human=lambda: table(["section", "holds"], [(p.name, p.summary) for p in found]),
        )
        return
    part, keys = explain(key)

    def human() -> None:
        if keys == part.keys:
            heading(f"[[{part.name}]]" if part.repeats else f"[{part.name}]")
            click.echo(f"{part.summary[0].upper()}{part.summary[1:]}")
        for one in keys:
            default = "must be given" if one.default is None else f"default {one.default}"
            facts = "; ".join(fact for fact in (one.type, one.bounds, default) if fact)
            click.echo(f"\n{one.path} ({facts})\n  {one.description}")

    value = {"section": part.name, "summary": part.summary, "keys": [asdict(one) for one in keys]}
    print_result(value, as_json=as_json, human=human)


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
