"""The server's own page in a real browser: it asks, it shows, it says what it does not know."""

from __future__ import annotations

import contextlib

import pytest

from tests.browser import browser
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

pytestmark = pytest.mark.slow

KNOWN, STRANGE = "where is my parcel", "zzz qqq"
ANSWERED = (
    "document.querySelectorAll('article').length === 2 && !document.getElementById('go').disabled"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@contextlib.contextmanager
def served(folder, *, extra="", **version):
    tagging = version.get("tagging", False)
    task = "token-classification" if tagging else "text-classification"
    workspace = make_workspace(folder / "ws", task=task, extra=extra)
    serving = workspace.root / "serving" / "tickets"
    write_version(serving, 1, **version)
    point_to(serving, 1, 1)
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        yield server.address


def ask(page, *texts):
    """Type texts as a person would, and press the button."""
    page.evaluate("document.getElementById('texts').focus()")
    page.call("Input.insertText", text="\n".join(texts))
    page.evaluate("document.getElementById('go').click()")
    page.wait_for(ANSWERED)
    return page.evaluate(
        "JSON.stringify([...document.querySelectorAll('article')].map(a => a.innerText))"
    )


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1000, True)])
def test_the_page_answers_and_says_what_is_unknown(page, tmp_path, width, dark):
    # A text of known words has an energy of 3 and more, one of unknown words log 4.
    rule = {"score": "energy", "threshold": 2.0, "rate": 0.05, "rows": 100}
    with served(tmp_path, unknown=rule) as address:
        page.open(f"{address}/", width=width, dark=dark)
        page.wait_for("document.getElementById('state').textContent === 'version 1 answers'")
        cards = ask(page, KNOWN, STRANGE)
        seen = page.look()
        page.picture(f"server-{'dark' if dark else 'light'}-{width}")
    assert page.console == []
    first, second = seen.text.split(STRANGE)
    assert cards.count("Unknown") == 1
    assert "Unknown" not in first.partition(KNOWN)[2]
    assert "Unknown: unlike everything the model was proven on." in second
    assert "shipping" in first
    assert (seen.scrolls, seen.wide) == (0, [])
    assert seen.viewport.startswith("width=device-width")
    assert all(name.startswith(address) for name in seen.fetched)
    # The colours are those of every page, in the reader's scheme.
    assert (seen.colour == "rgb(230, 237, 243)") is dark
    assert (seen.canvas == "rgb(255, 255, 255)") is not dark


def test_the_page_marks_entities_where_they_stand(page, tmp_path):
    with served(tmp_path, tagging=True) as address:
        page.open(f"{address}/", width=390)
        page.wait_for("document.getElementById('state').textContent === 'version 1 answers'")
        ask(page, "🙂 fly to Rome today", "about me")
        marked = page.evaluate("document.querySelector('mark').firstChild.textContent")
        seen = page.look()
        page.picture("server-entities")
    assert page.console == []
    assert marked == "Rome"
    assert "no entities" in seen.text
    assert (seen.scrolls, seen.wide) == (0, [])


def test_the_page_sends_a_token_where_asking_needs_one(page, tmp_path):
    token = "p" * 20
    (tmp_path / "tokens").write_text(f"predict {token}\n")
    extra = f'tokens_file = "{tmp_path / "tokens"}"\nroot_path = "/below"\n'
    with served(tmp_path, extra=extra) as address:
        page.open(f"{address}/below", width=390)
        page.wait_for("document.getElementById('state').textContent === 'version 1 answers'")
        assert page.evaluate("document.getElementById('closed').hidden") is False
        page.evaluate("document.getElementById('token').focus()")
        page.call("Input.insertText", text=token)
        assert "shipping" in ask(page, KNOWN, STRANGE)
        seen = page.look()
        page.picture("server-token")
    assert page.console == []
    assert all(name.startswith(f"{address}/below") for name in seen.fetched)
    assert token not in seen.text
    assert (seen.scrolls, seen.wide) == (0, [])
