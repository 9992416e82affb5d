"""The built-in strategies and regularisers, registered through the hooks that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl
from contlearn.training.regularizers.lwf import Lwf
from contlearn.training.regularizers.online_ewc import OnlineEwc
from contlearn.training.regularizers.plugin import AvalanchePlugin
from contlearn.training.strategies.er import ExperienceReplay
from contlearn.training.strategies.from_scratch import FromScratch
from contlearn.training.strategies.frozen_head import FrozenHead
from contlearn.training.strategies.joint import Joint
from contlearn.training.strategies.naive import Naive
from contlearn.training.strategies.replay import Replay


@hookimpl
def contlearn_register_strategies() -> list[type]:
    """Give the strategy classes."""
    return [Naive, Replay, ExperienceReplay, Joint, FromScratch, FrozenHead]


@hookimpl
def contlearn_register_regularizers() -> list[type]:
    """Give the regulariser classes."""
    return [Lwf, OnlineEwc, AvalanchePlugin]
