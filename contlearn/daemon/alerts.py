"""What the daemon tells people: what happened, and what somebody should look at."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Any, Final

from contlearn.context import Context
from contlearn.daemon.pacing import Every
from contlearn.errors import ContlearnError
from contlearn.monitoring.signals import read_signals
from contlearn.operations.notify import collect, post, tell

__all__ = ["Alerts"]

_POST_SECONDS: Final = 2.0


class Alerts:
    """The notifications of one workspace.

    Args:
        context: The opened workspace.
        log: Where tries are logged.
    """

    def __init__(self, context: Context, log: Any) -> None:
        self.context, self.log = context, log
        self._due = Every(context.clock, _POST_SECONDS)
        self._posting = threading.Lock()

    def post(self) -> None:
        """Put what happened into the outbox and tell whom it may concern; one thread at a time."""
        if not self._posting.acquire(blocking=False):
            return
        try:
            if not self._due():
                return
            collect(self.context)
            self._deliver()
        except ContlearnError as error:
            self.log.error("notifications wait", **error.to_json())
        finally:
            self._posting.release()

    def deliver(self) -> None:
        """Tell what is in the outbox, without a look into the catalog, which may be locked."""
        with self._posting:
            self._deliver()

    def _deliver(self) -> None:
        for channel, message, delivery in post(self.context):
            write = self.log.info if delivery.ok else self.log.warning
            write("notification", channel=channel, message=message, said=delivery.said)

    def alert(self, name: str, subject: str, error: ContlearnError) -> None:
        """Tell that something went wrong; with a full disk the log must do."""
        self.context.emit("alert", subject=subject, reason=str(error))
        moment = f"{self.context.clock.now():%Y%m%dT%H%M}"
        self._tell(
            f"alert-{name}-{moment}",
            subject=subject,
            reason=error.what,
            where=error.where,
            hint=error.hint,
        )

    def held(self, number: int, cycle: str | None, error: ContlearnError) -> None:
        """Tell that records made updates fail and are held."""
        what = f"{number} records made updates fail and are held. The last failure: {error.what}"
        hint = "`contlearn data release` lets them take part again."
        told = ContlearnError(what, where=error.where, hint=hint)
        self.alert(f"held-{cycle}", f"{number} records are held", told)

    def drift(self) -> None:
        """Tell once of each alarm of drift; there may be no labels yet that could be learnt."""
        context = self.context
        signals = read_signals(context.workspace.state)
        if signals is None or signals.version != context.registry.champion():
            return
        drift = signals.drift
        if not drift.detected or drift.consecutive < context.config.update.drift_looks:
            return
        since = re.sub(r"[^0-9A-Za-z]", "", drift.since or "")[:20]
        self._tell(
            f"alert-drift-{signals.version}-{since}",
            subject=f"{drift.severity} drift",
            reason=" ".join(drift.explanation[:3]) or ", ".join(drift.detectors),
            version=signals.version,
            since=drift.since,
        )

    def _tell(self, name: str, **data: object) -> None:
        with contextlib.suppress(ContlearnError):
            tell(self.context, "alert", name, **data)
