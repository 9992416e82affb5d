"""The daemon: one process that watches workspaces for months and starts updates when they are due.

It holds no learning logic: files are taken in, models made and compared in children, so that it
stays small and a crash there is a failed cycle, never a dead daemon.
"""

from contlearn.daemon.host import Daemon
from contlearn.daemon.watch import Watch

__all__ = ["Daemon", "Watch"]
