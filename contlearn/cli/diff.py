"""`contlearn diff`."""

from __future__ import annotations

from typing import Any

import click

from contlearn.cli.settings import (
    Settings,
    json_option,
    pass_settings,
    print_result,
    version_name,
)


@click.command(
    "diff", help="Show what changed from version A to version B: measures, labels, settings, flips."
)
@click.argument("a", type=version_name)
@click.argument("b", type=version_name)
@click.option(
    "--examples",
    default=5,
    show_default=True,
    type=click.IntRange(min=0),
    help="At most so many texts for each kind of flip.",
)
@json_option
@pass_settings
def command(settings: Settings, a: int | str, b: int | str, examples: int, as_json: bool) -> None:
    """Compare two versions."""
    from contlearn.operations.diff import compare_versions

    with settings.open() as context:
        value = compare_versions(context, a, b, examples=examples)
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import heading, number, table
    from contlearn.wording import Measures

    a, b = value["a"]["version"], value["b"]["version"]
    heading(f"From version {a} to version {b}")
    click.echo(value["relation"][:1].upper() + value["relation"][1:] + ".")
    columns = ["", f"version {a}", f"version {b}", "difference"]
    table(
        columns,
        [
            (
                Measures.of(value).name(name),
                number(row["a"]),
                number(row["b"]),
                "–" if row["difference"] is None else f"{row['difference']:+.3f}",
            )
            for name, row in value["metrics"].items()
        ],
        right=(1, 2, 3),
    )
    labels = value["labels"]
    for word in ("added", "removed"):
        if labels[word]:
            click.echo(f"Labels {word}: {', '.join(labels[word])}")
    changed = {**value["configuration"], **value["lineage"]}
    if changed:
        table(
            ["changed", f"version {a}", f"version {b}"],
            [(key, _short(row["a"]), _short(row["b"])) for key, row in changed.items()],
        )
    flips = value["flips"]
    click.echo(
        f"Of {flips['rows']} held-out rows that both were judged on, {flips['fixed']} are right "
        f"now, {flips['broken']} are wrong now, {flips['changed']} are wrong in another way."
    )
    if flips["examples"]:
        table(
            ["flip", "text", "right", f"version {a}", f"version {b}"],
            [
                (
                    row["kind"],
                    row["text"] if row["text"] is not None else "(forgotten)",
                    _short(row["target"]),
                    _short(row["a"]),
                    _short(row["b"]),
                )
                for row in flips["examples"]
            ],
        )


def _short(value: object) -> str:
    if value is None:
        return "–"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
