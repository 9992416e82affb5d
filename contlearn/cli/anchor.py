"""`contlearn anchor`."""

from __future__ import annotations

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    reason_option,
)


@click.group(
    "anchor",
    help="The best proven version of the champion's lineage. Small losses of many updates are "
    "counted from it (rule no-erosion), and it is never deleted.",
)
def command() -> None:
    """Hold the two commands."""


@command.command("show", help="Show the best proven version, and how far the champion is from it.")
@json_option
@pass_settings
def show_command(settings: Settings, as_json: bool) -> None:
    """Print both."""
    from contlearn.operations.anchor import read_anchor

    with settings.open() as context:
        value = read_anchor(context)

    def human() -> None:
        from contlearn.wording import Measures, best_words

        if value["champion"] is None:
            click.echo("There is no champion yet.")
            return
        said = best_words({"version": value["champion"], "best": value}, Measures.of(value))
        click.echo(
            f"The champion, version {value['champion']}, is {said or 'the best proven version'}."
        )
        looks = value["looks"]
        click.echo(f"{looks} {'look' if looks == 1 else 'looks'} of this lineage so far.")
        if value["reset_at"]:
            click.echo(f"Counted anew since {value['reset_at'][:16]} UTC: {value['reset_reason']}")

    print_result(value, as_json=as_json, human=human)


@command.command(
    "reset",
    help="Let the champion be the best proven version from now on; the looks are counted anew. "
    "For a loss that is wanted, a label that means something else now, say.",
)
@reason_option
@dry_run_option
@json_option
@pass_settings
def reset_command(settings: Settings, reason: str, dry_run: bool, as_json: bool) -> None:
    """Reset it."""
    from contlearn.registry.anchors import reset_anchor

    with settings.open() as context:
        champion, before = reset_anchor(
            context.registry, actor=context.actor, reason=reason, dry_run=dry_run
        )
    value = {"version": champion, "previous": before, "dry_run": dry_run}

    def human() -> None:
        word = "would be" if dry_run else "is"
        click.echo(f"Version {champion} {word} the best proven one (before: {before}).")

    print_result(value, as_json=as_json, human=human)
