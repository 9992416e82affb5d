"""`contlearn verify`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result, version_name


@click.command("verify", help="Check that VERSION, or every version, is as it was written.")
@click.argument("version", required=False, type=version_name)
@json_option
@pass_settings
def command(settings: Settings, version: int | str | None, as_json: bool) -> int:
    """Compare every file with its SHA-256; exit 1 when one differs."""
    from contlearn.operations.verify import verify_versions

    with settings.open() as context:
        value = verify_versions(context, version)

    def human() -> None:
        for item in value["versions"]:
            for problem in item["problems"]:
                click.echo(f"version {item['version']}: {problem}")
        for problem in value["serving"]:
            click.echo(f"serving directory: {problem}")
        for problem in value["journal"]:
            click.echo(f"journal: {problem}")
        bad = sum(bool(item["problems"]) for item in value["versions"])
        checked = len(value["versions"])
        click.echo(f"{checked} versions checked, " + (f"{bad} damaged." if bad else "all whole."))

    print_result(value, as_json=as_json, human=human)
    if not value["ok"]:
        bad = [str(item["version"]) for item in value["versions"] if item["problems"]]
        parts = [f"version {number}" for number in bad]
        parts += [name for name in ("serving", "journal") if value[name]]
        settings.complain_quietly(f"Damaged: {', '.join(parts)}.")
    return 0 if value["ok"] else 1
