"""Reading the configuration again while the daemon works."""

from __future__ import annotations

from typing import Any

from contlearn.context import Context
from contlearn.daemon.alerts import Alerts
from contlearn.errors import ContlearnError

__all__ = ["Reloading"]


class Reloading:
    """Reads the configuration of one workspace again; a bad one is refused, the old one kept.

    Args:
        context: The opened workspace, whose configuration is replaced.
        alerts: Who is told of a refusal.
        log: Where it is logged.
    """

    def __init__(self, context: Context, alerts: Alerts, log: Any) -> None:
        self.context, self.alerts, self.log = context, alerts, log
        self.refused: str | None = None
        self._accepted: Context | None = None

    def read(self) -> None:
        """Read and check it now; what is accepted holds once it is taken."""
        context = self.context
        try:
            new = Context.open(
                context.workspace.root, plugins_dir=context.manager.folder, clock=context.clock
            )
            for key, before, after in (
                ("storage.catalog", context.config.storage, new.config.storage),
                ("model.name", context.config.model.name, new.config.model.name),
            ):
                if before != after:
                    raise ContlearnError(
                        f"{key} cannot change while the daemon runs.",
                        where=key,
                        hint="Restart the daemon.",
                    )
        except ContlearnError as error:
            self.refused, self._accepted = str(error), None
            self.log.error("configuration refused, the old one is kept", **error.to_json())
            self.alerts.alert("config", "the new configuration was refused", error)
            return
        self.refused, self._accepted = None, new

    def take(self) -> bool:
        """Let an accepted configuration hold from now on; say whether there was one."""
        new, self._accepted = self._accepted, None
        if new is None:
            return False
        context = self.context
        context.config, context.manager, context.origins = new.config, new.manager, new.origins
        for name in ("registry", "task"):
            context.__dict__.pop(name, None)
        self.log.info("configuration read again")
        return True
