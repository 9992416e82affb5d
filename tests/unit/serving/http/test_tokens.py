from __future__ import annotations

import pytest

from contlearn.errors import ConfigError
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.tokens import Tokens, read_token, read_tokens

TOKENS = Tokens({"feedback": ["f" * 32, "g" * 32], "control": ["c" * 32]})


@pytest.mark.parametrize(
    "given", [None, "", "Bearer ", "Bearer wrong", "Basic " + "f" * 32, "Bearer \udcff", "f" * 32]
)
def test_a_wrong_token_is_refused_and_the_scheme_is_named(given):
    with pytest.raises(RequestProblem) as caught:
        TOKENS.require("feedback", given)
    assert caught.value.status == 401
    assert (b"www-authenticate", b'Bearer realm="contlearn"') in caught.value.headers()


@pytest.mark.parametrize("token", ["f" * 32, "g" * 32])
def test_every_token_of_the_role_passes(token):
    assert TOKENS.require("feedback", f"bearer {token}") is None


def test_a_token_of_another_role_is_forbidden():
    with pytest.raises(RequestProblem) as caught:
        TOKENS.require("control", "Bearer " + "f" * 32)
    assert caught.value.status == 403


def test_a_file_of_tokens_names_the_role_of_each(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who may do what\nfeedback {'a' * 16}\n\ncontrol {'b' * 20}\n")
    assert read_tokens(path) == {"feedback": ["a" * 16], "control": ["b" * 20]}


@pytest.mark.parametrize(
    "line", ["admin " + "a" * 32, "feedback", "feedback short", "control " + "\u00e9" * 20]
)
def test_a_line_that_is_wrong_is_named(tmp_path, line):
    path = tmp_path / "tokens"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_tokens(path)
    assert str(path) in str(caught.value.where)


def test_a_file_that_is_not_there_is_an_error_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "nothing")


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_tokens_are_taken_up_when_their_file_changes(tmp_path):
    path = written(tmp_path / "tokens", f"predict {'a' * 16}\n")
    tokens = Tokens.read_from(lambda: read_tokens(path), [path])
    written(tmp_path / "new", f"predict {'b' * 16}\ncontrol {'c' * 16}\n").replace(path)
    assert tokens.require("predict", f"Bearer {'a' * 16}") is None
    tokens.refresh()
    assert tokens.require("predict", f"Bearer {'b' * 16}") is None
    assert tokens.has("control")
    with pytest.raises(RequestProblem) as caught:
        tokens.require("predict", f"Bearer {'a' * 16}")
    assert caught.value.status == 401


@pytest.mark.parametrize("text", ["", "# nothing\n", f"feedback {'f' * 16}\n"])
def test_a_role_without_tokens_stays_closed_until_the_next_start(tmp_path, text):
    path = written(tmp_path / "tokens", f"predict {'a' * 16}\n")
    tokens = Tokens.read_from(lambda: read_tokens(path), [path])
    written(path, text)
    tokens.refresh()
    assert tokens.has("predict")
    with pytest.raises(RequestProblem):
        tokens.require("predict", f"Bearer {'a' * 16}")
    assert not tokens.has("control")


@pytest.mark.parametrize("change", ["damage", "remove"])
def test_a_file_that_cannot_be_used_leaves_the_old_tokens_and_is_told_once(
    tmp_path, caplog, change
):
    path = written(tmp_path / "tokens", f"predict {'a' * 16}\n")
    tokens = Tokens.read_from(lambda: read_tokens(path), [path])
    if change == "damage":
        written(path, "predict short\n")
    else:
        path.unlink()
    tokens.refresh()
    tokens.refresh()
    assert tokens.require("predict", f"Bearer {'a' * 16}") is None
    told = [r for r in caplog.records if r.message == "tokens refused, the old ones are kept"]
    assert len(told) == 1
    written(path, f"predict {'b' * 16}\n")
    tokens.refresh()
    assert tokens.require("predict", f"Bearer {'b' * 16}") is None
