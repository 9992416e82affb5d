"""Cycles whose catalog is away for a while, at every transaction of theirs."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.schema import records
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.errors import CatalogUnreachable
from contlearn.testing import FakeClock
from tests.scripted import ScriptedContext, drop, make_workspace, scan_here


class Away(Catalog):
    """Is away from one transaction that writes, before it or after it counted, for some more."""

    def __init__(self, url, *, at, after, length):
        self.begun, self.at, self.after, self.left = 0, -1, False, 0
        super().__init__(url)
        self.at, self.after, self.left = at, after, length

    def _unreachable(self):
        return CatalogUnreachable("The catalog failed: gone.", where=self.place)

    @contextlib.contextmanager
    def write(self):
        number = self.begun
        self.begun += self.at >= 0
        if self.at >= 0 and number >= self.at and self.left and not self.after:
            self.left -= 1
            raise self._unreachable()
        with super().write() as connection:
            yield connection
        if self.at >= 0 and number >= self.at and self.left and self.after:
            self.left -= 1
            raise self._unreachable()


class AwayContext(ScriptedContext):
    """A context with such a catalog, opened once the scan is over."""

    def away(self, **how):
        self.__dict__["catalog"] = Away(self.workspace.catalog_url(self.config), **how)


def run(root, **how):
    workspace = make_workspace(root)
    drop(workspace, "calm")
    with AwayContext.open(workspace.root, clock=FakeClock()) as context:
        scan_here(context)
        context.away(**how)
        result = UpdateCycle(
            context, child="tests.scripted_child", scan=lambda *_, **__: {}
        ).run_once()
        begun = context.catalog.begun
        with context.catalog.read() as connection:
            query = sa.select(records.c.state, sa.func.count()).group_by(records.c.state)
            states = dict(connection.execute(query).all())
        return result, states, begun


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_catalog_that_is_away_for_one_transaction_of_a_cycle_fails_none(tmp_path, after):
    calm, states, begun = run(tmp_path / "calm", at=10_000, after=after, length=0)
    assert (calm.outcome, states) == ("promoted", {"learnt": 12})
    ended = []
    for at in range(begun):
        result = None
        with contextlib.suppress(CatalogUnreachable):  # before there is a cycle
            result, states, _ = run(tmp_path / str(at), at=at, after=after, length=1)
            assert (result.outcome, result.version, states) == ("promoted", 1, {"learnt": 12}), at
        ended.append(result is not None)
    # Once it is planned, nothing ends it any more.
    assert ended == sorted(ended)
    assert sum(ended) >= 7
