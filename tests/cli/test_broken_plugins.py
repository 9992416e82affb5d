"""Plugins that are broken in every way we know, and the commands that go on beside them."""

from __future__ import annotations

import json
import urllib.request

import pytest

from contlearn.context import Context
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.operations.doctor import examine_workspace
from contlearn.registry.promotion import promote
from contlearn.serving.settings import settings_from_config
from tests import scripted
from tests.served import make_workspace, point_to, running, wait_for, write_version
from tests.unit.inference.tiny import model_facts, write_model
from tests.unit.registry.staged import facts, make_registry, stage

HOOK = """
from contlearn.plugins import hookimpl

class Loud:
    name = "{name}"
    summary = "a rule"

@hookimpl
def {hook}({arguments}):
    {body}
"""


def _hook(body, *, name="loud", hook="contlearn_register_gate_rules", arguments=""):
    return HOOK.format(body=body, name=name, hook=hook, arguments=arguments)


# Kind → the plugin's text, and what is said of it.
BROKEN = {
    "raises at import": ("raise RuntimeError('no disk')", "RuntimeError: no disk"),
    "exits at import": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "is no Python": ("def (:\n", "SyntaxError"),
    "lacks a package": ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    "raises beside Exception": (
        "class End(BaseException): pass\nraise End('all over')",
        "End: all over",
    ),
    "hook raises": (_hook("raise RuntimeError('no net')"), "RuntimeError: no net"),
    "hook exits": (_hook("raise SystemExit(4)"), "SystemExit: 4"),
    "hook gives None": (_hook("return None"), "gave NoneType, not a list of classes"),
    "hook gives a generator that raises": (_hook("yield Loud; raise KeyError('k')"), "KeyError"),
    "hook gives no class": (_hook("return ['loud']"), "'loud' as a gate rule, which is no class"),
    "class has no name": (_hook("return [object]"), "has no name and summary"),
    "name of a built-in": (
        _hook("return [Loud]", name="worth"),
        "Its gate rule 'worth' has the name of one of contlearn's",
    ),
    "name of another plugin": (_hook("return [Loud]"), "Two plugins register the gate rule"),
    "hook has other arguments": (_hook("return [Loud]", arguments="cli"), "does not fit the hooks"),
    "hook is not known": (_hook("return []", hook="contlearn_register_all"), "does not fit"),
    "parser without endings": (
        _hook("return [Loud]", hook="contlearn_register_parsers"),
        "'loud' has no `suffixes`",
    ),
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path):
    """A folder with a broken plugin, and what is said of it."""
    text, said = BROKEN[request.param]
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "bad.py").write_text(text)
    if request.param == "name of another plugin":
        (folder / "other.py").write_text(text)
    return folder, said


@pytest.fixture
def promoted(workspace):
    """A workspace whose champion knows a few words."""
    registry = make_registry(workspace.root)
    folder = stage(workspace.root, "c1")
    (folder / "onnx" / "model.onnx").unlink()
    write_model(folder / "onnx")
    model = {**model_facts(), "max_tokens": 8}
    registry.register(folder, cycle_id="c1", parent=None, facts=facts(model=model))
    promote(registry, 1, actor="ada", reason="")
    return workspace


def test_broken_plugin_is_named_and_counted_and_status_predict_and_metrics_go_on(
    broken, promoted, run, caplog
):
    folder, said = broken
    ask = ("--workspace", promoted.root, "--plugins-dir", folder)
    status = json.loads(run(*ask, "status", "--json").out)
    first = status["broken_plugins"][0]
    assert (first["name"], first["distribution"]) == ("bad", str(folder / "bad.py"))
    assert said in first["error"]
    # Once, and by that one command alone.
    assert caplog.text.count(f"'bad' ({folder}/bad.py) is broken") == 1
    # A table breaks its lines where it likes.
    assert "broken plugin" in run(*ask, "status").out
    assert run(*ask, "predict", "good film", "--json").code == 0
    counted = f'contlearn_broken_plugins{{model="test"}} {len(status["broken_plugins"])}.0'
    assert counted in run(*ask, "metrics").out
    listed = json.loads(run(*ask, "plugins", "list", "--json").out)["plugins"]
    assert said in next(row["error"] for row in listed if row["name"] == "bad")
    checks = {check.name: check for check in examine_workspace(promoted.root, plugins_dir=folder)}
    assert checks["plugins"].ok is False
    assert said in checks["plugins"].found


def test_broken_plugin_stops_no_update_and_no_daemon(broken, tmp_path):
    folder, _ = broken
    workspace = scripted.make_workspace(tmp_path / "ws")
    scripted.drop(workspace, "calm")
    with scripted.ScriptedContext.open(workspace.root, plugins_dir=folder) as context:
        updated = UpdateCycle(
            context, child="tests.scripted_child", scan=scripted.scan_here
        ).run_once()
        assert (updated.outcome, updated.version) == ("promoted", 1)
    watch = scripted.open_watch(workspace, plugins_dir=folder)
    try:
        watch.begin()
        scripted.drop(workspace, "calm")
        watch.context.clock.sleep(100.0)
        watch.step()
        assert scripted.outcomes(watch)[-1] == ("count", "promoted")
    finally:
        watch.context.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A workspace that can be served."""
    workspace = make_workspace(tmp_path_factory.mktemp("served") / "ws")
    serving = workspace.root / "serving" / "tickets"
    write_version(serving, 1)
    point_to(serving, 1, 1)
    return workspace


def test_broken_plugin_stops_no_server(broken, served):
    folder, _ = broken
    with (
        Context.open(served.root, plugins_dir=folder) as context,
        running(settings_from_config(served, context.config, context.manager)) as server,
    ):
        request = urllib.request.Request(
            f"{server.address}/predict",
            data=json.dumps({"texts": ["invoice refund"]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        wait_for(lambda: server.site.first.follower.current is not None)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "keys",
    [
        '[plugins]\nrequired = ["bad"]\n',
        '[gate]\nrules = ["loud"]\n',
        '[training]\nstrategy = "loud"\n',
        '[replay]\npolicy = "loud"\n',
        '[monitoring]\ndetectors = ["loud"]\n',
    ],
)
def test_broken_plugin_that_the_configuration_names_never_passes_in_silence(
    keys, workspace, tmp_path, run
):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "bad.py").write_text(_hook("raise RuntimeError('no net')"))
    with workspace.config_file.open("a") as file:
        file.write(keys)
    ran = run("--workspace", workspace.root, "--plugins-dir", folder, "update")
    assert ran.code == 2
    assert "RuntimeError: no net" in ran.err
