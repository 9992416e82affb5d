"""`contlearn metrics`."""

from __future__ import annotations

from pathlib import Path

import click

from contlearn.cli.settings import Settings, pass_settings
from contlearn.cli.terminal import quiet_pipe


@click.command(
    "metrics", help="Print the daemon's metrics, for machines where cron runs contlearn instead."
)
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replace this .prom file, which node_exporter's textfile collector reads.",
)
@pass_settings
def command(settings: Settings, textfile: Path | None) -> None:
    """Write what the daemon would show at a scrape."""
    from contlearn.errors import UsageError
    from contlearn.operations.metrics import workspace_registry
    from contlearn.telemetry.metrics import encode_metrics
    from contlearn.telemetry.textfile import write_textfile

    if textfile is not None and textfile.suffix != ".prom":
        raise UsageError(
            "node_exporter reads only files whose names end in .prom.",
            where=f"--textfile {textfile}",
            hint=f"Name it {textfile.name}.prom.",
        )
    with settings.open() as context:
        registry = workspace_registry(context)
        if textfile is not None:
            write_textfile(textfile, registry)
            settings.remark(f"Wrote {textfile}.")
            return
        # The format is UTF-8 whatever the terminal is.
        with quiet_pipe():
            click.echo(encode_metrics(registry)[0], nl=False)
