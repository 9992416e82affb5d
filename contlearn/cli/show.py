"""`contlearn show`."""

from __future__ import annotations

from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result, version_name


@click.command("show", help="Show VERSION (or the champion): lineage, measures, decision, files.")
@click.argument("version", required=False, type=version_name)
@json_option
@pass_settings
def command(settings: Settings, version: int | str | None, as_json: bool) -> None:
    """Print what is written about a version."""
    from contlearn.operations.show import describe_version

    with settings.open() as context:
        value = describe_version(context, version)
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import heading, print_reasons, table
    from contlearn.cli.reports import metric_line
    from contlearn.wording import Measures, moment

    model, lineage, export = value["model"], value["lineage"], value["export"]
    heading(f"Version {value['version']}" + ("  (champion)" if value["is_champion"] else ""))
    table(
        ["", ""],
        [
            ("made", f"{moment(value['created_at'])} UTC by cycle {lineage['cycle']}"),
            ("aliases", ", ".join(value["aliases"]) or "none"),
            ("parent", lineage["parent"] or "none"),
            ("measures", metric_line(value["metrics"], Measures.of(value))),
            (
                "learnt",
                (
                    f"{lineage['records']} new records, {len(lineage['experiences'])} experiences, "
                    f"strategy {lineage['strategy']}"
                ),
            ),
            (
                "labels",
                f"{len(model['labels'])}: {', '.join(model['labels'][:12])}"
                + (" …" if len(model["labels"]) > 12 else ""),
            ),
            (
                "model",
                (
                    f"{model['base']}, {_precision(model, export)}, "
                    f"{export['size_bytes'] / 1e6:.1f} MB, "
                    f"{sum(export['fused'].values())} fused nodes"
                ),
            ),
            (
                "parity",
                (
                    f"logits differ by at most {export['max_abs_difference']:.1e}"
                    f"{_of_spread(export)}, labels agree on "
                    f"{100 * export['label_agreement']:.1f} % of {export['rows_checked']} texts"
                ),
            ),
            ("tokens", _tokens(model, export)),
            ("forgotten", f"{value['forgotten_records']} of its records were forgotten since"),
            ("corrected", f"{value['superseded_records']} of its labels gave way to newer ones"),
            ("folder", value["path"]),
        ],
    )
    print_reasons(value["decision"]["outcomes"])


def _precision(model: dict[str, Any], export: dict[str, Any]) -> str:
    recipe = export.get("recipe")
    return f"{model['precision']} ({recipe})" if recipe else str(model["precision"])


def _of_spread(export: dict[str, Any]) -> str:
    """Say it in the unit that is judged, which exports of an earlier contlearn do not know."""
    share = export.get("relative_difference")
    return "" if share is None else f" ({share:.1e} of their spread, {export['logit_spread']:.3g})"


def _tokens(model: dict[str, Any], export: dict[str, Any]) -> str:
    limit = export.get("position_limit")
    places = "" if limit is None else f"; the encoder has places for {limit}"
    return f"inputs are cut at {model['max_tokens']}{places}"
