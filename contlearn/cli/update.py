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
@click.option("--request", is_flag=True, help="Ask the daemon to update, and do not wait for it.")
@click.option("--reason", default="", help="Why; goes with --request.")
@click.option(
    "--run-key",
    metavar="KEY",
    help="A name for this run: asked again with it, nothing is run twice, and the answer is the "
    "same.",
)
@click.option("--no-promote", is_flag=True, help="Register the challenger, keep the champion.")
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings,
    strategy: str | None,
    force: bool,
    request: bool,
    reason: str,
    run_key: str | None,
    no_promote: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run one cycle, or finish the one that was interrupted."""
    if request:
        given = {
            "--strategy": strategy is not None,
            "--force": force,
            "--run-key": run_key is not None,
            "--no-promote": no_promote,
        }
        if any(given.values()):
            names = " and ".join(name for name, is_given in given.items() if is_given)
            raise click.UsageError(
                f"--request does not go with {names}: the daemon updates as it is configured."
            )
        return _request(settings, reason, dry_run=dry_run, as_json=as_json)
    if reason:
        raise click.UsageError("--reason goes with --request only.")
    from contlearn.cli.reports import show_update
    from contlearn.cycle.update_cycle import UpdateCycle

    with settings.open() as context, settings.progress() as progress:

        def show(stage: str, done: int, total: int, message: str) -> None:
            if stage == "planning":
                settings.remark(f"Forecast: {message}.")
            else:
                progress(stage, done, total, message)

        result = UpdateCycle(context, show).run_once(
            run_key=run_key,
            strategy=strategy,
            force=force,
            promote=not no_promote,
            dry_run=dry_run,
        )
    value = result.to_json()
    print_result(value, as_json=as_json, human=lambda: show_update(value))
    if result.error is not None:
        settings.complain(f"Error: {result.error.what}")
        if result.error.where:
            settings.complain(f"  where: {result.error.where}")
        if result.error.hint:
            settings.complain(f"  to do: {result.error.hint}")
    if result.outcome == "refused":
        why = " ".join(outcome.message for outcome in result.refusals)
        settings.complain_quietly(f"The challenger was refused: {why}")
    return result.exit_code


def _request(settings: Settings, reason: str, *, dry_run: bool, as_json: bool) -> int:
    from contlearn.catalog.leases import DAEMON_LEASE, holder_of
    from contlearn.cycle.causes import request_update

    with settings.open() as context:
        asked = request_update(
            context.catalog,
            at=context.clock.now(),
            by=context.actor,
            reason=reason,
            dry_run=dry_run,
        )
        running = holder_of(context.catalog, DAEMON_LEASE) is not None
    value = {
        "request": asked.request_id or None,
        "at": asked.at.isoformat(),
        "daemon_running": running,
        "dry_run": dry_run,
    }

    def human() -> None:
        if asked.request_id:
            click.echo(f"Asked for an update ({asked.request_id}).")
        else:
            click.echo("An update would be asked for.")
        if not running:
            click.echo("No daemon watches this workspace now; the next one to start serves it.")

    print_result(value, as_json=as_json, human=human)
    return 0
