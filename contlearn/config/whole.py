"""The whole configuration: every section with its defaults."""

from __future__ import annotations

from pydantic import model_validator

from contlearn.config.base import Section
from contlearn.config.daemon import DaemonConfig
from contlearn.config.data import DataConfig
from contlearn.config.export import ExportConfig
from contlearn.config.gate import GateConfig
from contlearn.config.model import ModelConfig
from contlearn.config.monitoring import MonitoringConfig
from contlearn.config.notifications import NotificationsConfig
from contlearn.config.plugins import PluginsConfig
from contlearn.config.probation import ProbationConfig
from contlearn.config.replay import ReplayConfig
from contlearn.config.retention import RetentionConfig
from contlearn.config.serving import ServingConfig
from contlearn.config.signing import SigningConfig
from contlearn.config.sources import SourceConfig
from contlearn.config.storage import StorageConfig
from contlearn.config.training import TrainingConfig
from contlearn.config.update import UpdateConfig

__all__ = ["Config"]


class Config(Section):
    """Everything in contlearn.toml."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    update: UpdateConfig = UpdateConfig()
    training: TrainingConfig = TrainingConfig()
    replay: ReplayConfig = ReplayConfig()
    gate: GateConfig = GateConfig()
    export: ExportConfig = ExportConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    retention: RetentionConfig = RetentionConfig()
    signing: SigningConfig = SigningConfig()
    storage: StorageConfig = StorageConfig()
    daemon: DaemonConfig = DaemonConfig()
    probation: ProbationConfig = ProbationConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    plugins: PluginsConfig = PluginsConfig()
    sources: tuple[SourceConfig, ...] = ()

    @model_validator(mode="after")
    def _closed_sets_are_consistent(self) -> Config:
        if len(set(self.data.labels)) != len(self.data.labels):
            raise ValueError("data.labels names a label twice")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have one name")
        return self
