"""`contlearn predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result, version_name

if TYPE_CHECKING:
    from contlearn.interfaces import Task


@click.command("predict", help="Predict TEXTs, or the lines of a file, with the champion.")
@click.argument("texts", nargs=-1)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="One text or JSON object a line; - reads standard input.",
)
@click.option(
    "--version", metavar="VERSION", type=version_name, help="Another version than the champion."
)
@click.option(
    "--explain", is_flag=True, help="Also weigh each word: how much it speaks for the label."
)
@json_option
@pass_settings
def command(
    settings: Settings,
    texts: tuple[str, ...],
    path: Path | None,
    version: int | str | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Answer in this process."""
    from contlearn.operations.predict import predict_texts, read_lines

    lines = list(texts)
    if path is not None and str(path) == "-":
        lines += [line for line in sys.stdin.read().split("\n") if line.strip()]
    elif path is not None:
        lines += read_lines(path)
    with settings.open() as context:
        value = predict_texts(context, lines, version=version, explain=explain)
    print_result(value, as_json=as_json, human=lambda: _show(lines, value, context.task))


def _show(lines: list[str], value: dict[str, Any], task: Task) -> None:
    from contlearn.cli.output import table

    rows = [
        ("" if place else line, cells)
        for line, prediction in zip(lines, value["predictions"], strict=True)
        for place, cells in enumerate(task.cells(prediction))
    ]
    titles = list(dict.fromkeys(title for _, cells in rows for title in cells))
    # What the server and --explain add stands below.
    titles = [title for title in titles if title not in ("explanation", "truncated", "unread")]
    table(
        ["text", *titles],
        [(line, *(_cell(cells.get(title, "")) for title in titles)) for line, cells in rows],
        right=tuple(
            place
            for place, title in enumerate(titles, 1)
            if any(_is_numeric(cells.get(title, "")) for _, cells in rows)
        ),
    )
    for prediction in value["predictions"]:
        if "explanation" in prediction:
            _show_explanation(prediction["explanation"])
    _show_unread(lines, value["predictions"])


def _cell(value: str | float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _is_numeric(value: str | float) -> bool:
    return not isinstance(value, str) or value.endswith(" %")


def _show_unread(lines: list[str], predictions: list[dict[str, Any]]) -> None:
    """Say of which texts the model has not read everything."""
    for number, (line, prediction) in enumerate(zip(lines, predictions, strict=True), 1):
        if prediction.get("truncated"):
            click.echo(f"Text {number} was cut at the model's token limit.")
        for item in prediction.get("unread", ()):
            start, end = item["start"], item["end"]
            if item["reason"] == "cut":
                click.echo(f"Text {number} was cut at the model's token limit, from {start} on.")
            else:
                signs = " ".join(f"U+{ord(sign):04X}" for sign in line[start:end][:4])
                click.echo(
                    f"Text {number}: the word from {start} to {end} ({signs}) has no piece, so it "
                    "was not read."
                )


def _show_explanation(explanation: dict[str, Any]) -> None:
    """Write the words in their order, those that matter with their weight."""
    from rich.markup import escape

    from contlearn.cli.output import console

    most = max((abs(word["weight"]) for word in explanation["words"]), default=0.0)
    shown = []
    for word in explanation["words"]:
        text, weight = escape(word["text"]), word["weight"]
        if abs(weight) < max(0.05, 0.1 * most):
            shown.append(f"[dim]{text}[/dim]")
        else:
            colour = "green" if weight > 0 else "red"
            shown.append(f"[{colour}]{text}[/{colour}]({weight:+.1f})")
    console().print(f"  {escape(explanation['label'])}: {' '.join(shown)}", soft_wrap=True)
