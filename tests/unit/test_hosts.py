from __future__ import annotations

import socket

import pytest

from contlearn.hosts import OwnHosts

OWN = socket.gethostname().lower()


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "hosts"
    path.write_text(
        f"127.0.0.1 localhost # evil.example\n10.1.2.3 {OWN}.corp.example {OWN}\n"
        "10.1.2.4 other.corp.example\n\n# 127.0.0.1 old.example\n"
    )
    return path


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        OWN,
        f"{OWN}.local",
        f"{OWN}.corp.example",
        "10.9.8.7",
        "::1",
        "db.svc",
        "bound.x",
    ],
)
def test_own_names_are_those_that_no_page_of_elsewhere_can_have(table, name):
    assert name in OwnHosts((), "bound.x", table=table)


@pytest.mark.parametrize("name", ["evil.example", "old.example", "other.corp.example", "", None])
def test_other_names_are_not_whatever_is_resolved_to_this_machine(table, name):
    assert name not in OwnHosts((), "bound.x", table=table)


def test_further_names_are_named_one_by_one_below_another_or_all(table):
    hosts = OwnHosts(["A.example", "*.b.example"], table=table)
    assert [n in hosts for n in ("a.example", "x.a.example", "x.b.example", "b.example")] == [
        True, False, True, False,
    ]  # fmt: skip
    assert "evil.example" in OwnHosts(["*"], table=table)
    assert "evil.example" not in OwnHosts(table=table.with_name("none"))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("LocalHost:80", "localhost"),
        ("localhost.", "localhost"),
        ("[::1]:80", "::1"),
        ("1.2.3.4", "1.2.3.4"),
        ("a b", None),
        ("", None),
        ("a@b", None),
        ("[::1", None),
    ],
)
def test_a_header_is_read_without_its_port(header, name):
    assert OwnHosts().name_of(header) == name
