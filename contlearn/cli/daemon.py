"""`contlearn daemon`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from contlearn.cli.settings import Settings, pass_settings


@click.command(
    "daemon",
    help="Watch the inbox of each WORKSPACE, and update when there is a reason to. "
    "SIGHUP reads the configuration again, SIGUSR1 writes the state down, SIGTERM ends.",
)
@click.argument("workspaces", nargs=-1, type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", help="Address of metrics and health; monitoring.host if left out.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Their port; monitoring.port if left out, 0 takes a free one.",
)
@click.option(
    "--no-standby", is_flag=True, help="Give up where another daemon works, instead of waiting."
)
@pass_settings
def command(
    settings: Settings,
    workspaces: tuple[Path, ...],
    host: str | None,
    port: int | None,
    no_standby: bool,
) -> None:
    """Run until SIGTERM or Ctrl-C."""
    from contlearn.context import Context
    from contlearn.daemon import Daemon
    from contlearn.daemon.endpoint import daemon_routes, start_endpoint
    from contlearn.telemetry.logs import configure_logs

    given = {"monitoring.host": host, "monitoring.port": port}
    overrides: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    level = "DEBUG" if settings.verbose else "WARNING" if settings.quiet else "INFO"
    configure_logs(level)  # what is said while the workspaces are opened has its form too
    with contextlib.ExitStack() as stack:
        contexts = [
            stack.enter_context(
                Context.open(root, overrides=overrides, plugins_dir=settings.plugins_dir)
            )
            for root in workspaces or (settings.root,)
        ]
        first = contexts[0].config.daemon
        if first.log_file:
            configure_logs(
                level,
                file=contexts[0].workspace.root / first.log_file,
                max_bytes=first.log_bytes,
                files=first.log_files,
            )
        daemon = Daemon(contexts, standby=not no_standby)
        stack.enter_context(daemon.signals())
        address = stack.enter_context(start_endpoint(contexts[0], daemon_routes(daemon)))
        daemon.log.info("metrics", address=f"{address}/metrics")
        daemon.run()
