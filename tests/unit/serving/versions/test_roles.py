from __future__ import annotations

import pytest

from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.versions.canary import CanaryWatch, tail_probability
from contlearn.serving.versions.roles import Canary, Roles, RolesFile, Shadow, parse_roles

NOW = Roles(canary=Canary(version=3, share=0.2), also=(1,))


def test_what_is_left_out_stays_and_null_takes_away():
    assert parse_roles({"shadow": {"version": "challenger"}}, NOW) == Roles(
        canary=NOW.canary, shadow=Shadow(version="challenger"), also=(1,)
    )
    assert parse_roles({"canary": None, "also": [2, 2, 4]}, NOW) == Roles(also=(2, 4))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"champion": 3}, "body"),
        ({"canary": 3}, "canary"),
        ({"canary": {"version": 0}}, "canary.version"),
        ({"canary": {"version": True}}, "canary.version"),
        ({"canary": {"version": 3, "share": 1.5}}, "canary.share"),
        ({"canary": {"version": 3, "share": float("nan")}}, "canary.share"),
        ({"canary": {"version": 3, "max_latency_ratio": 0.5}}, "canary.max_latency_ratio"),
        ({"shadow": {"version": 3, "speed": 1}}, "shadow"),
        ({"also": [1, 2, 3, 4, 5]}, "also"),
        ({"also": ["1"]}, "also"),
    ],
)
def test_a_role_that_is_wrong_is_refused_and_named(value, where):
    with pytest.raises(RequestProblem) as caught:
        parse_roles(value, NOW)
    assert (caught.value.status, caught.value.where) == (400, where)


def test_a_change_outlives_a_restart_until_the_configuration_changes(tmp_path):
    path = tmp_path / "state" / "roles.json"
    configured = Roles(canary=Canary(version=3))
    kept = RolesFile(path, configured)
    assert kept.read() == configured
    kept.write(Roles(), "canary 3 stopped: errors")
    assert RolesFile(path, configured).read() == Roles()
    other = Roles(canary=Canary(version=4))
    assert RolesFile(path, other).read() == other
    path.write_text("{")
    assert RolesFile(path, configured).read() == configured


def test_the_tail_of_the_binomial_is_exact():
    assert tail_probability(0, 5, 0.3) == 1.0
    assert tail_probability(1, 2, 0.5) == pytest.approx(0.75)
    assert tail_probability(3, 3, 0.1) == pytest.approx(0.001)


def note(watch, count, *, is_canary, failed=False, seconds=0.01):
    for _ in range(count):
        watch.note(is_canary=is_canary, failed=failed, seconds_per_text=seconds)


def test_a_canary_that_fails_is_stopped_and_one_that_fails_like_the_champion_is_not():
    watch = CanaryWatch()
    note(watch, 200, is_canary=False)
    note(watch, 1, is_canary=True, failed=True)
    assert watch.verdict() is None
    note(watch, 2, is_canary=True, failed=True)
    assert watch.verdict() == "errors"
    equal = CanaryWatch()
    for side in (True, False):
        note(equal, 90, is_canary=side)
        note(equal, 10, is_canary=side, failed=True)
    assert equal.verdict() is None


def test_a_slow_canary_is_stopped_after_enough_requests():
    watch = CanaryWatch(max_latency_ratio=2.0)
    note(watch, 100, is_canary=False, seconds=0.01)
    note(watch, 99, is_canary=True, seconds=0.03)
    assert watch.verdict() is None
    note(watch, 1, is_canary=True, seconds=0.03)
    assert watch.verdict() == "latency"


def test_differences_below_the_noise_of_a_machine_stop_nothing():
    watch = CanaryWatch(max_latency_ratio=2.0)
    note(watch, 200, is_canary=False, seconds=0.0001)
    note(watch, 200, is_canary=True, seconds=0.0010)
    assert watch.verdict() is None
