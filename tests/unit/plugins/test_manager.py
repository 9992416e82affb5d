from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ConfigDict

from contlearn.data.formats.reading import find_parser
from contlearn.errors import PluginError
from contlearn.plugins import hookimpl
from contlearn.plugins.manager import PluginManager
from contlearn.types import Event


class Rule:
    name = "loud"
    summary = "a rule"

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        volume: int = 1


class Plugin:
    """A plugin as an object with hook functions."""

    @hookimpl
    def contlearn_register_gate_rules(self):
        return [Rule]


@pytest.fixture
def manager():
    return PluginManager(discover=False)


def test_class_is_found_by_name(manager):
    manager.register(Plugin(), name="p", distribution="dist-p")
    assert manager.get("gate rule", "loud", where="x") is Rule


def test_unknown_name_suggests_the_near_one(manager):
    manager.register(Plugin(), name="p", distribution="dist-p")
    with pytest.raises(PluginError, match="Did you mean 'loud'"):
        manager.get("gate rule", "lowd", where="x")


def test_options_are_checked_and_the_near_key_is_suggested(manager):
    manager.register(Plugin(), name="p", distribution="dist-p")
    _, options = manager.options("gate rule", "loud", {"volume": 3}, where="x")
    assert options.volume == 3
    with pytest.raises(PluginError, match="Did you mean 'volume'"):
        manager.options("gate rule", "loud", {"volum": 3}, where="x")


def test_two_of_one_name_are_both_left_out_and_the_error_names_both(manager):
    manager.register(Plugin(), name="p", distribution="dist-p")
    manager.register(Plugin(), name="q", distribution="dist-q")
    with pytest.raises(PluginError, match=r"no gate rule 'loud'.*dist-p and dist-q.*neither"):
        manager.get("gate rule", "loud", where="x")
    assert [failure.name for failure in manager.failures] == ["p", "q"]


def test_built_in_keeps_its_name_whoever_is_asked_first(manager):
    class Worth(Rule):
        name = "worth"

    class Eager:
        @hookimpl(trylast=True)
        def contlearn_register_gate_rules(self):
            return [Worth, Rule]

    manager.register(Eager(), name="e", distribution="dist-e")
    assert manager.get("gate rule", "worth", where="x").__module__.startswith("contlearn.")
    assert manager.get("gate rule", "loud", where="x") is Rule
    assert [failure.error for failure in manager.failures] == [
        "Its gate rule 'worth' has the name of one of contlearn's."
    ]


def test_built_in_parser_keeps_its_file_endings(manager):
    class Aaa:
        name = "aaa"
        summary = "claims what is read already"
        suffixes = (".csv", ".aaa")

    class Claims:
        @hookimpl
        def contlearn_register_parsers(self):
            return [Aaa]

    manager.register(Claims(), name="c", distribution="dist-c")
    assert find_parser(manager, "a.csv").name == "csv"
    assert find_parser(manager, "a.aaa").name == "aaa"


def test_hook_with_wrong_arguments_is_refused_at_registration(manager):
    class Wrong:
        @hookimpl
        def contlearn_on_event(self, evnt):
            return None

    with pytest.raises(PluginError, match="does not fit"):
        manager.register(Wrong(), name="w", distribution="dist-w")


def test_observer_that_raises_or_exits_is_counted_and_the_next_one_hears(manager, caplog):
    heard = []

    class Raises:
        @hookimpl
        def contlearn_on_event(self, event):
            raise RuntimeError("deaf")

    class Hears:
        @hookimpl
        def contlearn_on_event(self, event):
            heard.append(event.kind)

    class Exits:
        @hookimpl
        def contlearn_on_event(self, event):
            raise SystemExit(3)

    manager.register(Hears(), name="h", distribution="d")
    manager.register(Raises(), name="r", distribution="d")
    manager.register(Exits(), name="e", distribution="d")
    manager.notify(Event(kind="promoted", at=datetime.now(UTC), workspace="w"))
    assert heard == ["promoted"]
    assert manager.observer_errors == 2
    assert "deaf" in caplog.text


def test_blocked_plugin_is_not_loaded(tmp_path):
    (tmp_path / "bad.py").write_text("raise RuntimeError\n")
    assert PluginManager(discover=False, folder=tmp_path).failures
    assert not PluginManager(discover=False, folder=tmp_path, blocked=["bad"]).failures


def test_strict_mode_makes_a_failure_an_error(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.setenv("CONTLEARN_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="no"):
        PluginManager(discover=False, folder=tmp_path)


def test_strict_mode_makes_what_a_hook_gives_an_error_too(manager, monkeypatch):
    class Nothing:
        @hookimpl
        def contlearn_register_gate_rules(self):
            return None

    monkeypatch.setenv("CONTLEARN_STRICT_PLUGINS", "1")
    manager.register(Nothing(), name="n", distribution="dist-n")
    with pytest.raises(PluginError, match="'n' cannot be used: .*gave NoneType"):
        manager.table("gate rule")


def test_ctrl_c_while_plugins_are_loaded_ends_the_program(tmp_path):
    (tmp_path / "slow.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        PluginManager(discover=False, folder=tmp_path)


def test_class_that_cannot_be_made_is_an_error_for_whom_it_is_named(manager):
    class Heavy(Rule):
        class Options:
            @classmethod
            def model_validate(cls, _):
                raise RuntimeError("too heavy")

    class Brings:
        @hookimpl
        def contlearn_register_gate_rules(self):
            return [Heavy]

    manager.register(Brings(), name="b", distribution="dist-b")
    with pytest.raises(PluginError, match="'loud' cannot be made: RuntimeError: too heavy"):
        manager.options("gate rule", "loud", {}, where="x")


def test_failure_is_said_once_and_not_by_a_child(tmp_path, caplog):
    (tmp_path / "bad.py").write_text("raise RuntimeError('no')\n")
    for quiet in (False, True):
        made = PluginManager(discover=False, folder=tmp_path, quiet=quiet)
        made.examine()
        made.examine()
        assert [failure.name for failure in made.failures] == ["bad"]
    assert [record.getMessage() for record in caplog.records] == [
        f"The plugin 'bad' ({tmp_path}/bad.py) is broken; what fails is left out: RuntimeError: no"
    ]
