"""`contlearn daemon`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, pass_settings


@click.command(
    "daemon", help="Watch the inbox; update on schedule, on enough records, or after a long wait."
)
@click.option("--host", help="Address of the metrics; monitoring.host if left out.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the metrics; monitoring.port if left out, 0 takes a free one.",
)
@pass_settings
def command(settings: Settings, host: str | None, port: int | None) -> None:
    """Run until SIGTERM or Ctrl-C."""
    from contlearn.pipeline.measuring import start_metrics_server
    from contlearn.pipeline.watching import Watcher
    from contlearn.telemetry.logs import configure_logs

    overrides: dict[str, object] = {}
    if host is not None:
        overrides["monitoring.host"] = host
    if port is not None:
        overrides["monitoring.port"] = port
    configure_logs("DEBUG" if settings.verbose else "WARNING" if settings.quiet else "INFO")
    with settings.open(overrides) as context:
        from contlearn.daemon import Daemon

        daemon = Daemon(context, plugins_dir=settings.plugins_dir)
        watcher = Watcher(context, plugins_dir=settings.plugins_dir)
        with (
            daemon.signals(),
            start_metrics_server(context, daemon.heartbeat) as address,
            watcher.running(),
        ):
            daemon.log.info("metrics", address=address)
            daemon.run()
