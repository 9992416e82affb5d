from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ConfigDict

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


def test_two_of_one_name_are_an_error_naming_both(manager):
    manager.register(Plugin(), name="p", distribution="dist-p")
    manager.register(Plugin(), name="q", distribution="dist-q")
    with pytest.raises(PluginError, match="dist-p.*dist-q|dist-q.*dist-p"):
        manager.table("gate rule")


def test_hook_with_wrong_arguments_is_refused_at_registration(manager):
    class Wrong:
        @hookimpl
        def contlearn_on_event(self, evnt):
            return None

    with pytest.raises(PluginError, match="does not fit"):
        manager.register(Wrong(), name="w", distribution="dist-w")


def test_class_without_a_name_is_an_error(manager):
    class Nameless:
        @hookimpl
        def contlearn_register_gate_rules(self):
            return [object]

    manager.register(Nameless(), name="n", distribution="dist-n")
    with pytest.raises(PluginError, match="no name"):
        manager.table("gate rule")


def test_observer_that_raises_is_counted_and_the_next_one_hears(manager, caplog):
    heard = []

    class Raises:
        @hookimpl
        def contlearn_on_event(self, event):
            raise RuntimeError("deaf")

    class Hears:
        @hookimpl
        def contlearn_on_event(self, event):
            heard.append(event.kind)

    manager.register(Hears(), name="h", distribution="d")
    manager.register(Raises(), name="r", distribution="d")
    manager.notify(Event(kind="promoted", at=datetime.now(UTC), workspace="w"))
    assert heard == ["promoted"]
    assert manager.observer_errors == 1
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
