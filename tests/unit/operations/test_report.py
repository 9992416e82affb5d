"""Pages for people: what stands in them, and that they need nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from contlearn.cards import clear_cards
from contlearn.cli import main
from contlearn.errors import StorageError
from contlearn.monitoring.signals import append_look, read_signals
from contlearn.operations.drift import look, record_look
from contlearn.operations.overview import read_overview
from contlearn.operations.report import report_all, report_version
from contlearn.pages.flips import worst_flips
from contlearn.pages.overview import render_overview
from contlearn.pages.version_page import make_report
from contlearn.papers.decision import DECISION
from contlearn.papers.report import REPORT
from contlearn.workspace import write_json_atomic
from tests.logged import log_answers, logged_workspace
from tests.unit.registry.staged import facts, stage, well

VOID = {"meta", "link", "br"}


class Tree(HTMLParser):
    """Checks that every element is closed, and keeps what would be loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and value not in ("data:,",):
                self.outside.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag


def checked(page):
    tree = Tree()
    tree.feed(page)
    assert tree.open == []
    assert tree.outside == []
    assert "script" not in tree.tags
    assert "url(" not in page
    return page


@pytest.fixture
def context(tmp_path):
    """A model with a refused version, a champion, alarms, and a hostile name for a label."""
    with logged_workspace(tmp_path / "ws") as opened:
        from contlearn.registry.promotion import promote

        opened.registry.preflight = well
        promote(opened.registry, 1, actor="ada", reason="<i>first</i>")
        folder = stage(opened.workspace.root, "c2", promoted=False)
        value = facts(metrics={"average_accuracy": 0.7, "forgetting": 0.2})
        value["lineage"] = {"experiences": ["c1", "c2"], "strategy": "naive", "records": 40}
        value["export"] = {"label_agreement": 1.0, "size_bytes": 5_000_000}
        opened.registry.register(folder, cycle_id="c2", parent=1, facts=value)
        yield opened


def test_history_page_shows_versions_decisions_drift_and_accuracy(context, tmp_path, capsys):
    log_answers(context, 700, seed=1, labels=1.0)
    record_look(context, look(context, window=300))
    log_answers(
        context, 400, seed=2, minutes=60, weights=(0.7, 0.1, 0.1, 0.1), sure=(3, 3), labels=1.0
    )
    record_look(context, look(context, window=300))
    page = checked(render_overview(read_overview(context)))
    for words in (
        "version 1 promoted", "· champion", "version 2 refused", "by gain",
        "Strong drift", "The predicted labels moved: billing", "Accuracy estimated",
        "Accuracy measured", "It dropped.", "ks-confidence", "Alarms",
    ):  # fmt: skip
        assert words in page, words
    assert page.count("<polygon") == 1
    assert "svg .line { fill: none" in page  # a curve, not a filled shape
    assert "<i>" not in page
    path, root = tmp_path / "history.html", str(context.workspace.root)
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", root, "report", "--all", "--output", str(path), "--json"])
    assert ended.value.code == 0
    value = json.loads(capsys.readouterr().out)
    assert value == {"path": str(path), "size_bytes": path.stat().st_size, "versions": 2}
    assert checked(path.read_text()).count("refresh") == 0


def test_history_page_says_what_was_not_worth_the_change(context):
    folder = stage(context.workspace.root, "c3", promoted=False, keeps=True)
    context.registry.register(folder, cycle_id="c3", parent=1, facts=facts())
    page = checked(render_overview(read_overview(context)))
    assert '<b class="soft">version 3 kept</b><span> by gain</span>' in page
    assert "<b>0</b>records kept for the next update<" in page


def test_page_of_a_new_model_says_what_there_is(tmp_path):
    from contlearn.context import Context
    from tests.served import make_workspace

    workspace = make_workspace(tmp_path / "new", name="new")
    with Context.open(workspace.root) as context:
        page = checked(render_overview(read_overview(context)))
        assert "no version was promoted yet" in page
        assert "Nobody has looked at production yet" in page
        assert report_all(context)["path"].endswith("new/reports/history.html")


def test_a_damaged_version_stands_in_the_page_by_its_number(context):
    manifest = context.registry.get(2).path / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{")
    page = checked(render_overview(read_overview(context)))
    assert "version 2" in page
    assert "damaged" in page


def test_long_histories_stay_small(context):
    log_answers(context, 700, seed=1)
    record_look(context, look(context))
    signals = read_signals(context.workspace.state)
    import dataclasses

    for number in range(2, 30):
        append_look(context.workspace.state, dataclasses.replace(signals, look=number))
    path = context.workspace.state / "monitoring" / "looks.jsonl"
    path.write_text(path.read_text() * 60)
    value = read_overview(context)
    assert len(value["looks"]) <= 400
    assert len(render_overview(value)) < 150_000


def test_history_loads_neither_numpy_nor_pyarrow(context):
    code = (
        "import sys; from pathlib import Path; from contlearn.context import Context\n"
        "from contlearn.operations.overview import read_overview\n"
        "from contlearn.pages.overview import render_overview\n"
        f"c = Context.open(Path({str(context.workspace.root)!r}))\n"
        "render_overview(read_overview(c), live_seconds=30)\n"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'pyarrow', 'onnxruntime', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flips_show_each_field_with_its_own_words():
    flip = {
        "record_id": "r", "set": 1, "expected": "a", "answer": "c", "confidence": 0.9,
        "text": "bad film good",
        "explanation": {
            "texts": {"premise": "bad film", "hypothesis": "good"},
            "words": [
                {"field": "premise", "start": 0, "end": 3, "text": "bad", "weight": 2.0},
                {"field": "hypothesis", "start": 0, "end": 4, "text": "good", "weight": -2.0},
            ],
        },
    }  # fmt: skip
    section = checked(worst_flips([flip]))
    assert re.findall(r"<p>(.*?)</p>", re.sub("<span[^>]*>|</span>", "", section)) == [
        "bad film",
        "good",
    ]
    assert section.count("var(--bad)") == section.count("var(--good)") == 1


def test_flips_show_the_words_and_escape_the_text():
    flip = {
        "record_id": "r", "set": 1, "expected": "a<b", "answer": "c", "confidence": 0.9,
        "text": "<script>bad</script> word",
        "explanation": {"words": [{"start": 8, "end": 11, "text": "bad", "weight": 2.0}]},
    }  # fmt: skip
    section = checked(worst_flips([flip]))
    assert "&lt;script&gt;" in section
    red = "background: color-mix(in srgb, var(--bad) 50%, transparent)"
    assert f'<span style="{red}" title="+2.00">bad</span>' in section
    assert "a&lt;b" in section
    assert "None: whatever" in worst_flips([])
    assert worst_flips(None) == ""
    emptied, cleared = clear_cards(section, lambda record_id: record_id == "r")
    assert cleared == 1
    assert "bad</span>" not in emptied


def _with_papers(context):
    """Register version 3, whose report has slices of texts."""
    few = {"slice": "long texts", "rows": 3, "rows_outside": 40, "labels": []}
    folder = stage(context.workspace.root, "c3")
    write_json_atomic(folder / REPORT, {"metrics": {"accuracy": 0.5}, "text_slices": [few]})
    write_json_atomic(folder / DECISION, {"promoted": True, "outcomes": []})
    context.registry.register(folder, cycle_id="c3", parent=1, facts=facts())
    return folder.parent / "3"


def test_page_of_a_version_has_slices_and_flips_as_sections_like_any_other(context, tmp_path):
    _with_papers(context)
    page = make_report(context, 3, output=tmp_path / "3.html").read_text()
    assert '<section id="slices-by-text"><h2>Slices by text</h2>' in page
    assert '<a href="#slices-by-text">' in page
    assert "long texts" in page
    assert "Worst flips" not in page
    page = make_report(context, 3, output=tmp_path / "3.html", flips=[]).read_text()
    assert '<section id="worst-flips"><h2>Worst flips</h2>' in page


@pytest.mark.parametrize("said", ["{", '{"format_version": 1, "labels": [], "sets": [{}]}'])
def test_report_tells_damaged_answers_with_their_place(context, said):
    _with_papers(context)
    path = context.registry.get(3).path / "scores.json"
    path.write_text(said)
    with pytest.raises(StorageError, match=r"scores\.json is damaged") as told:
        report_version(context, 3, flips=2)
    assert told.value.where == str(path)


def test_report_refuses_what_does_not_fit_together(context, capsys):
    root = str(context.workspace.root)
    for arguments in (["report", "--all", "1"], ["report", "--all", "--flips", "3"]):
        with pytest.raises(SystemExit) as ended:
            main(["--workspace", root, *arguments])
        assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", root, "report", "7"])
    assert ended.value.code == 1
    assert "7" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", root, "report", "--all", "--output", f"{root}/missing/x.html"])
    assert ended.value.code == 2
    assert "Nothing can be written there: No such file or directory." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_history_page_fits_a_browser_without_errors(context, tmp_path, width):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium (Debian package)")
    log_answers(context, 700, seed=1, labels=1.0)
    record_look(context, look(context, window=300))
    log_answers(context, 400, seed=2, minutes=60, weights=(0.7, 0.1, 0.1, 0.1), labels=1.0)
    record_look(context, look(context, window=300))
    page = render_overview(read_overview(context))
    # The page itself has no script; the copy says whether anything is wider than the window, and
    # whether a chart is cut: by the window, by what scrolls around it, or a word by the chart.
    probe = """<script>
      const box = e => e.getBoundingClientRect(), inside = (a, b) =>
        box(a).left >= box(b).left - 1 && box(a).right <= box(b).right + 1;
      const charts = [...document.querySelectorAll("svg")];
      document.title = document.documentElement.scrollWidth > innerWidth ? "too wide"
        : !charts.every(e => box(e).right <= innerWidth && inside(e, e.parentElement)) ? "cut"
        : !charts.every(e => [...e.querySelectorAll("text")].every(t => inside(t, e))) ? "words cut"
        : !charts.every(e => [...e.querySelectorAll("text")].every(t => box(t).height > 8)) ? "tiny"
        : charts.length ? "fits" : "no chart"</script>"""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", probe + "</body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="page.html" width="{width}" height="2000" onload="document.title ='
        ' this.contentDocument.title"></iframe>'
    )
    done = subprocess.run(
        [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--allow-file-access-from-files", f"--user-data-dir={tmp_path}/profile",
            "--window-size=1600,2200", "--virtual-time-budget=4000", "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert re.search(r"<title>fits</title>", done.stdout), done.stdout[:300]
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
