"""The configuration: one section a file, every default, every check, before anything runs."""

from contlearn.config.base import Duration, Section, Size, parse_duration, parse_size
from contlearn.config.daemon import DaemonConfig
from contlearn.config.data import DataConfig, LimitsConfig
from contlearn.config.export import ExportConfig
from contlearn.config.gate import GateConfig
from contlearn.config.loading import CONFIG_FILE, LoadedConfig, load_config
from contlearn.config.model import ModelConfig
from contlearn.config.monitoring import MonitoringConfig
from contlearn.config.notifications import ChannelConfig, NotificationsConfig
from contlearn.config.plugins import PluginsConfig
from contlearn.config.probation import ProbationConfig
from contlearn.config.replay import ReplayConfig
from contlearn.config.retention import RetentionConfig
from contlearn.config.serving import ServingConfig
from contlearn.config.signing import SigningConfig
from contlearn.config.sources import SourceConfig
from contlearn.config.storage import StorageConfig
from contlearn.config.template import render_default
from contlearn.config.training import (
    AUGMENTATIONS,
    AugmentationConfig,
    RangeConfig,
    RegularizerConfig,
    SearchConfig,
    TrainingConfig,
)
from contlearn.config.update import DAYS, UpdateConfig, read_quiet
from contlearn.config.whole import Config

__all__ = [
    "AUGMENTATIONS",
    "CONFIG_FILE",
    "DAYS",
    "AugmentationConfig",
    "ChannelConfig",
    "Config",
    "DaemonConfig",
    "DataConfig",
    "Duration",
    "ExportConfig",
    "GateConfig",
    "LimitsConfig",
    "LoadedConfig",
    "ModelConfig",
    "MonitoringConfig",
    "NotificationsConfig",
    "PluginsConfig",
    "ProbationConfig",
    "RangeConfig",
    "RegularizerConfig",
    "ReplayConfig",
    "RetentionConfig",
    "SearchConfig",
    "Section",
    "ServingConfig",
    "SigningConfig",
    "Size",
    "SourceConfig",
    "StorageConfig",
    "TrainingConfig",
    "UpdateConfig",
    "load_config",
    "parse_duration",
    "parse_size",
    "read_quiet",
    "render_default",
]
