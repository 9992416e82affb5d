"""`contlearn notify`: test the channels, send what waits, make a secret."""

from __future__ import annotations

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
)


@click.group("notify", help="Test the notifications, send what waits, make a secret.")
def command() -> None:
    """Group the commands about notifications."""


@command.command("test", help="Tell every channel, or those named, that this is a test.")
@click.argument("channels", nargs=-1)
@json_option
@pass_settings
def test(settings: Settings, channels: tuple[str, ...], as_json: bool) -> int:
    """Send a test message; exit code 1 when a channel did not take it."""
    from contlearn.errors import ConfigError
    from contlearn.operations.notify import try_channels

    with settings.open() as context:
        known = {channel.name: channel for channel in context.config.notifications.channels}
        unknown = [name for name in channels if name not in known]
        if unknown or not known:
            raise ConfigError(
                f"There is no channel {unknown[0]!r}." if unknown else "There is no channel.",
                where="notifications.channels in contlearn.toml",
                hint=f"Known: {', '.join(known)}."
                if known
                else "Add a table [[notifications.channels]]; docs/daemon.md shows one of each.",
            )
        found = try_channels(context, [known[name] for name in channels or known])
    rows = [{"channel": name, "ok": delivery.ok, "said": delivery.said} for name, delivery in found]

    def human() -> None:
        for row in rows:
            click.echo(f"{row['channel']}: {'told' if row['ok'] else 'NOT told'} ({row['said']})")

    print_result({"channels": rows}, as_json=as_json, human=human)
    for row in rows:
        if not row["ok"]:
            settings.complain_quietly(f"{row['channel']} was not told: {row['said']}")
    return 0 if all(row["ok"] for row in rows) else 1


@command.command("send", help="Send now what waits in the outbox; for machines without a daemon.")
@dry_run_option
@json_option
@pass_settings
def send(settings: Settings, dry_run: bool, as_json: bool) -> int:
    """Collect what happened and tell it; exit code 1 when something still waits."""
    from contlearn.operations.notify import collect, open_outbox, post

    with settings.open() as context:
        if dry_run:
            waiting = open_outbox(context).count()
            print_result(
                {"new": 0, "told": 0, "failed": 0, "waiting": waiting},
                as_json=as_json,
                human=lambda: click.echo(f"{waiting} messages wait and would be told."),
            )
            return 0
        new = collect(context)
        tries = post(context, at_once=True)
        waiting = open_outbox(context).count()
    told = sum(delivery.ok for _, _, delivery in tries)
    value = {"new": new, "told": told, "failed": len(tries) - told, "waiting": waiting}

    def human() -> None:
        click.echo(f"{told} told, {len(tries) - told} failed, {waiting} messages wait.")

    print_result(value, as_json=as_json, human=human)
    if waiting:
        settings.complain_quietly(f"{waiting} messages still wait.")
    return 1 if waiting else 0


@command.command("secret", help="Make a secret for a webhook; write it into its secret_file.")
def secret() -> None:
    """Print a new secret."""
    from contlearn.notifications.signing import new_secret

    click.echo(new_secret())
