"""`contlearn data labels`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result


@click.command("labels", help="List labels: records, meaning, other names, and look-alikes.")
@json_option
@pass_settings
def labels_command(settings: Settings, as_json: bool) -> None:
    """Print every label that a record or the configuration has."""
    from contlearn.operations.records import list_labels

    with settings.open() as context:
        value = list_labels(context)

    def human() -> None:
        from contlearn.cli.output import table

        if not value["labels"]:
            click.echo("There are no labels yet.")
            return
        table(
            ["label", "train", "held out", "meaning", "also", "close to"],
            [
                (
                    item["label"],
                    item["train"],
                    item["held_out"],
                    item["description"] or "",
                    ", ".join(item["aliases"]),
                    item["looks_like"] or "",
                )
                for item in value["labels"]
            ],
            right=(1, 2),
        )

    print_result(value, as_json=as_json, human=human)
