"""A real browser opens the report of a version: nothing fails, nothing is fetched, nothing overflows."""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import subprocess

import pytest

from tests.unit.evaluation.made import TASK
from tests.unit.evaluation.test_papers import DECISION, FACTS, MORE, REPORT, TEXTS, report_page

pytestmark = pytest.mark.slow

# Runs inside the page that frames the report: its size, its colours, and what is wider than it.
PROBE = """
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentWindow, root = page.document;
  const wide = [...root.querySelectorAll("body *")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.right > page.innerWidth + 1 && !e.closest(".wide") && !e.closest("svg");
  });
  document.body.dataset.found = JSON.stringify({
    sections: [...root.querySelectorAll("h2")].map(h => h.textContent),
    links: [...root.querySelectorAll("nav a")].map(a => a.hash)
      .filter(h => !root.getElementById(h.slice(1))),
    background: page.getComputedStyle(root.body).backgroundColor,
    scrolls: root.documentElement.scrollWidth - page.innerWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 80)),
    fetched: page.performance.getEntriesByType("resource").map(e => e.name),
    ran: page.ran === undefined ? null : page.ran,
  });
});
</script>
"""


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium (Debian package chromium)")
    return path


@pytest.fixture(scope="module")
def report():
    """A report with everything: 60 labels, 9 experiences, texts that try to break out."""
    dice = random.Random(3)
    names = [f"label_{i:02}_with_a_rather_long_name" for i in range(59)] + ["<b>né & 標籤"]
    targets = [dice.choice(names) for _ in range(900)]
    answers = [t if dice.random() < 0.8 else dice.choice(names) for t in targets]
    labels = [
        {"label": name, "precision": 0.8, "recall": 0.7, "f1": dice.random(), "support": 15}
        for name in names
    ]
    return {
        **REPORT,
        **MORE,
        "accuracy_matrix": [
            [dice.uniform(0.6, 0.95) if k else None for k in range(t + 1)] for t in range(9)
        ],
        "per_label": labels,
        "confusion": TASK.confusion(answers, targets),
        "sets": [
            {**REPORT["sets"][0], "index": i, "champion": {"accuracy": 0.7}} for i in range(9)
        ],
        "label_counts": dict.fromkeys(names, 15),
    }


def look(chromium, folder, page, *, width=1000, dark=False):
    """Open a page in a frame of so many pixels, and give what was found and the console's lines."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    inside = base64.b64encode(page.encode()).decode()
    # As srcdoc the frame has the same origin, so that the probe may look inside.
    frame = (
        f"<body><iframe style='border:0;width:{width}px;height:900px'></iframe>{PROBE}"
        "<script>const text = new TextDecoder().decode(Uint8Array.from("
        f"atob('{inside}'), c => c.charCodeAt(0)));"
        "document.querySelector('iframe').srcdoc = text;</script>"
    )
    outer = folder / "frame.html"
    outer.write_text(frame, encoding="utf-8")
    found = {}
    for name, target in (("framed", outer), ("plain", path)):
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                "--virtual-time-budget=5000", "--dump-dom", target.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        found[name] = done.stdout
        found[f"console of {name}"] = re.findall(r".*CONSOLE.*", done.stderr)
    data = re.search(r'data-found="([^"]*)"', found["framed"])[1]
    return json.loads(data.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">")), found


def test_report_opens_without_an_error_and_fetches_nothing(chromium, report, tmp_path):
    page = report_page(
        name="tickets", facts=FACTS, report=report, decision=DECISION, records=TEXTS, version="12"
    )
    seen, found = look(chromium, tmp_path, page)
    assert found["console of plain"] == []
    assert found["console of framed"] == []
    assert "<title>tickets, version 12</title>" in found["plain"]
    assert seen["fetched"] == []
    assert seen["ran"] is None
    assert seen["links"] == []
    assert seen["sections"] == [
        "Decision", "Accuracy matrix", "Forgetting", "Held-out sets", "Slices", "Labels",
        "Confusions", "Reliability of confidences", "Worst rows", "Latency", "Data",
        "How it was made",
    ]  # fmt: skip


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1000, True)])
def test_report_fits_a_phone_and_is_dark_where_the_reader_is(
    chromium, report, tmp_path, width, dark
):
    page = report_page(name="tickets", facts=FACTS, report=report, decision=DECISION, records=TEXTS)
    seen, _ = look(chromium, tmp_path, page, width=width, dark=dark)
    assert seen["scrolls"] <= 0
    assert seen["wide"] == []
    assert seen["background"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_the_browser_sees_what_is_looked_for(chromium, report, tmp_path):
    """A page that does all that a report must not do is noticed."""
    page = report_page(name="tickets", facts=FACTS, report=report, decision=DECISION)
    bad = '<p style="width:3000px">wide</p><img src="http://127.0.0.1:9/x.png"><a href="#x">x</a>'
    seen, found = look(chromium, tmp_path, page.replace("<nav>", f"{bad}<nav><a href='#gone'></a>"))
    assert any("Content Security Policy" in line for line in found["console of plain"])
    assert seen["links"] == ["#gone"]
    assert seen["scrolls"] > 0
    assert any(item.startswith("<p style") for item in seen["wide"])
