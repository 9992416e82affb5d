"""The built-in strategies and regularisers, registered through the hooks that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_strategies() -> list[type]:
    """Give the strategy classes."""
    from contlearn.training.strategies.er import ExperienceReplay
    from contlearn.training.strategies.from_scratch import FromScratch
    from contlearn.training.strategies.frozen_head import FrozenHead
    from contlearn.training.strategies.gdumb import GDumb
    from contlearn.training.strategies.icarl import ICarl
    from contlearn.training.strategies.joint import Joint
    from contlearn.training.strategies.naive import Naive
    from contlearn.training.strategies.replay import Replay

    return [
        Naive,
        Replay,
        ExperienceReplay,
        Joint,
        FromScratch,
        FrozenHead,
        GDumb,
        ICarl,
    ]


@hookimpl
def contlearn_register_regularizers() -> list[type]:
    """Give the regulariser classes."""
    from contlearn.training.regularizers.importance import Ewc, Mas, RWalk, SynapticIntelligence
    from contlearn.training.regularizers.lwf import Lwf
    from contlearn.training.regularizers.masked_words import MaskedWords
    from contlearn.training.regularizers.memory import AGem, Der, DerPlusPlus, ErAce, Gem, Lfl, Mir
    from contlearn.training.regularizers.o_lora import OLora
    from contlearn.training.regularizers.online_ewc import OnlineEwc
    from contlearn.training.regularizers.plugin import AvalanchePlugin
    from contlearn.training.regularizers.robust import Fgm, FreeLb, Mixup, Pgd, RDrop, Smart

    penalties = [Lwf, Ewc, OnlineEwc, SynapticIntelligence, Mas, RWalk, Lfl, OLora]
    memories = [Gem, AGem, Mir, Der, DerPlusPlus, ErAce]
    robust = [Fgm, Pgd, FreeLb, Smart, RDrop, Mixup, MaskedWords]
    return [*penalties, *memories, *robust, AvalanchePlugin]
