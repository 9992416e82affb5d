"""The plugins that the pages show are whole: they are run as loose files, as a reader would."""

from __future__ import annotations

import gzip
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from contlearn.config import LimitsConfig
from contlearn.monitoring.sample import Sample
from contlearn.plugins.manager import PluginManager
from contlearn.testing import check_task
from contlearn.testing.checks import check_class

DOCS = Path(__file__).parents[2] / "docs"


def written(page, name, folder):
    """Write the example that defines a class into a file of its own."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if f"class {name}" in block]
    path = folder / f"{name.lower()}.py"
    path.write_text(code, encoding="utf-8")
    return path


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_task_of_the_page_keeps_to_the_kit(tmp_path):
    kind = module_of(written("tasks.md", "Urgency", tmp_path)).Urgency
    rows = [{"text": f"text number {number}", "urgency": number % 5} for number in range(10)]
    assert check_task(kind, rows) == []
    manager = PluginManager(discover=False, folder=tmp_path)
    assert manager.get("task", "urgency", where="a test").__name__ == "Urgency"


@pytest.mark.parametrize(("share", "alarms"), [(0.05, False), (0.5, True)])
def test_detector_of_the_page_judges(tmp_path, share, alarms):
    kind = module_of(written("drift.md", "LongTexts", tmp_path)).LongTexts
    assert check_class("detector", kind) == []

    def sample(long):
        lengths = np.where(np.arange(200) < 200 * long, 900.0, 80.0)
        return Sample(
            projections=np.zeros((0, 0)),
            numbers={"characters": lengths},
            labels=[],
            languages=[],
            texts=[],
        )

    detector = kind(sample(0.05), nulls={})
    finding = detector.judge(sample(share))
    assert (finding.p_value == 0.0) == alarms
    assert "times as common" in detector.explain(sample(share), finding)


def test_gate_rule_of_the_page_is_sound(tmp_path):
    kind = module_of(written("plugins.md", "FewLabels", tmp_path)).FewLabels
    assert check_class("gate rule", kind) == []


def test_file_format_of_the_page_reads_what_it_says(tmp_path):
    kind = module_of(written("plugins.md", "BarRows", tmp_path)).BarRows
    assert check_class("parser", kind) == []
    path = tmp_path / "rows.bars.gz"
    path.write_bytes(
        gzip.compress(b"\xef\xbb\xbfrefund|where is it\nno bar here\nlate|a|b\n\xff|x\n")
    )
    rows = list(kind().rows(path, LimitsConfig(), ("text", "label")))
    assert [row.row for row in rows] == [
        {"label": "refund", "text": "where is it"},
        None,
        {"label": "late", "text": "a|b"},
        None,
    ]
    assert [row.problem.reason for row in rows if row.problem] == ["no-bar", "no-bar"]
