"""`contlearn update`."""

from __future__ import annotations

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
)


@click.command("update", help="Learn what is new, prove it, promote it if the gate allows.")
@click.option("--strategy", help="Another strategy than the configured one, for this cycle.")
@click.option("--force", is_flag=True, help="Allow a strategy that reads the whole history.")
@click.option("--no-promote", is_flag=True, help="Register the challenger, keep the champion.")
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings,
    strategy: str | None,
    force: bool,
    no_promote: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run one cycle, or finish the one that was interrupted."""
    from contlearn.cli.reports import show_update
    from contlearn.pipeline.cycle import UpdateCycle

    with settings.open() as context, settings.progress() as progress:
        result = UpdateCycle(context, progress, plugins_dir=settings.plugins_dir).run_once(
            strategy=strategy, force=force, promote=not no_promote, dry_run=dry_run
        )
    value = result.to_json()
    print_result(value, as_json=as_json, human=lambda: show_update(value))
    if result.error is not None:
        settings.remark(f"Error: {result.error.what}")
        if result.error.where:
            settings.remark(f"  where: {result.error.where}")
        if result.error.hint:
            settings.remark(f"  to do: {result.error.hint}")
    return result.exit_code
