"""`contlearn serve`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from contlearn.cli.settings import Settings, pass_settings


@click.command(
    "serve",
    help="Answer predictions over HTTP, following the champion. Several WORKSPACES are served "
    "together, each under its model's name; the first answers where none is named.",
)
@click.argument("workspaces", nargs=-1, type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", help="The address; serving.host if left out.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port; serving.port if left out, 0 takes a free one.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A Unix socket instead of an address; serving.socket if left out.",
)
@pass_settings
def command(
    settings: Settings,
    workspaces: tuple[Path, ...],
    host: str | None,
    port: int | None,
    socket: Path | None,
) -> None:
    """Run until SIGTERM or Ctrl-C."""
    from contlearn.serving.app import run
    from contlearn.telemetry.logs import configure_logs

    if socket is not None and (host is not None or port is not None):
        raise click.UsageError("Give either --socket, or --host and --port.")
    configure_logs("DEBUG" if settings.verbose else "WARNING" if settings.quiet else "INFO")
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(each.open()) for each in settings.each(workspaces)]
        served = [(context.workspace, context.config) for context in opened]
        run(
            served,
            opened[0].manager,
            host=host,
            port=port,
            socket=None if socket is None else socket.absolute(),
        )
