"""`contlearn bench`: measure on this machine, with one's own records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    version_name,
)

__all__ = ["command"]


@click.group("bench", help="Measure on this machine, with your own records.")
def command() -> None:
    """Hold the benchmarks."""


@command.command("strategies", help="Replay your records through strategies, and compare them.")
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    help="strategy, strategy+regulariser or strategy@method; again for more. naive, tuned naive, "
    "frozen-head, joint and the default are always there.",
)
@click.option("--only", is_flag=True, help="Leave out what is always there.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with a file or sub-folder for each experience, instead of the history.",
)
@click.option("--steps", default=0, help="Cut the history into so many experiences.")
@click.option("--task", help="The task of the folder's rows, where there is no workspace.")
@click.option("--base", help="Another base model.")
@click.option("--max-tokens", type=click.IntRange(8, 8192), help="Cut longer texts.")
@click.option("--set", "settings_", multiple=True, help="A [training] key for all, as key=value.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where results are kept; a second call goes on there. WORKSPACE/bench if left out.",
)
@json_option
@pass_settings
def strategies(
    settings: Settings,
    strategies: Sequence[str],
    only: bool,
    seeds: Sequence[int],
    folder: Path | None,
    steps: int,
    task: str | None,
    base: str | None,
    max_tokens: int | None,
    settings_: Sequence[str],
    output: Path | None,
    as_json: bool,
) -> int:
    """Compare strategies."""
    from contlearn.benchmark import compare_strategies, stream_from_folder, stream_from_workspace
    from contlearn.config import CONFIG_FILE, Config
    from contlearn.plugins.manager import PluginManager

    arguments: dict[str, Any] = {}
    if folder is None or (settings.root / CONFIG_FILE).exists():
        with settings.open() as context:
            config: Config = context.config
            manager = context.manager
            if folder is None:
                stream = stream_from_workspace(context, steps=steps)
        arguments = {"model": config.model, "training": config.training, "replay": config.replay}
    else:
        config, manager = Config(), PluginManager(folder=settings.plugins_dir)
    if folder is not None:
        stream = stream_from_folder(
            folder,
            task=task or config.model.task,
            fields=config.data.field_names(),
            manager=manager,
        )
    result = compare_strategies(
        stream,
        output=output or settings.root / "bench",
        strategies=strategies,
        seeds=seeds,
        base=base,
        max_tokens=max_tokens,
        settings=_settings(settings_),
        manager=manager,
        only=only,
        report=settings.remark,
        **arguments,
    )
    print_result(result.to_json(), as_json=as_json, human=lambda: _show(result))
    return 0


def _settings(items: Sequence[str]) -> dict[str, Any]:
    """Read key=value; a value that is no JSON is a text."""
    from contlearn.errors import UsageError

    found: dict[str, Any] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UsageError(
                f"{item!r} is no key=value.", where="--set", hint="For example --set epochs=5"
            )
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _show(result: Any) -> None:
    from contlearn.benchmark.measures import FIGURES, titles
    from contlearn.benchmark.result import cell
    from contlearn.cli.output import table

    table(
        ["strategy", *titles(result.primary_metric), "seeds"],
        [
            (
                summary.name + (" (reference)" if summary.is_reference else ""),
                *(cell(summary, figure) for figure in FIGURES),
                str(summary.seeds),
            )
            for summary in result.summaries
        ],
        right=tuple(range(1, len(FIGURES) + 2)),
    )
    click.echo(f"Recommended: {result.recommendation or 'none'}. {result.reason}")
    click.echo(f"Page: {result.folder / 'index.html'}")


@command.command(
    "serving",
    help="Find how this machine serves a version fastest: threads, threads of one run, texts of "
    "one batch. The server takes the best layout up at its next start.",
)
@click.option(
    "--version", metavar="VERSION", type=version_name, help="Another version than the champion."
)
@click.option(
    "--seconds", type=click.FloatRange(0.05, 60.0), default=1.0, help="For each layout; 1 second."
)
@dry_run_option
@json_option
@pass_settings
def serving(
    settings: Settings, version: int | str | None, seconds: float, dry_run: bool, as_json: bool
) -> None:
    """Try the layouts, keep the best."""
    from contlearn.operations.chosen import chosen_version
    from contlearn.serving.compute.measuring import measure_layouts

    with settings.open() as context, settings.progress() as progress:
        chosen = chosen_version(context, version)
        value = measure_layouts(
            chosen.path / "onnx",
            context.manager,
            context.workspace.state / "serving",
            seconds=seconds,
            keep=not dry_run,
            progress=progress,
        )
    value |= {"version": chosen.version, "dry_run": dry_run}
    print_result(value, as_json=as_json, human=lambda: _show_layouts(value))


def _show_layouts(value: dict[str, Any]) -> None:
    from contlearn.cli.output import number, table

    best = value["best"]
    table(
        ["threads", "threads of a run", "texts of a batch", "texts/s", "p95 ms", ""],
        [
            (
                trial["threads"],
                trial["intra_threads"],
                trial["batch_texts"],
                number(trial["texts_per_second"], 0),
                number(trial["p95_milliseconds"], 1),
                "taken" if trial == best else "",
            )
            for trial in value["trials"]
        ],
        right=(0, 1, 2, 3, 4),
    )
    kept = "Not kept (--dry-run)." if value["dry_run"] else f"Kept in {value['path']}."
    click.echo(f"{kept} Restart `contlearn serve` to use it.")
