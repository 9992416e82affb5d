"""Which parameters are trained: all of them, some of them, or a few new ones."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from contlearn.errors import ConfigError
from contlearn.training.methods.base import Method, MethodOptions
from contlearn.training.methods.bottleneck import Bottleneck
from contlearn.training.methods.low_rank import Ia3, Lora, Osf, PeftMethod
from contlearn.training.methods.parts import BitFit, Full, HeadOnly, TopLayers
from contlearn.training.methods.prompts import PrefixTuning, PromptTuning, PTuning

__all__ = ["METHODS", "BitFit", "Full", "Lora", "Method", "MethodOptions", "make_method"]

METHODS: Final[Mapping[str, type[Any]]] = {
    cls.name: cls
    for cls in (
        Full,
        HeadOnly,
        TopLayers,
        BitFit,
        Lora,
        Ia3,
        Osf,
        PeftMethod,
        PromptTuning,
        PTuning,
        PrefixTuning,
        Bottleneck,
    )
}


def make_method(name: str, options: Mapping[str, object]) -> Any:
    """Make the method of this name, its options checked.

    Raises:
        ConfigError: When there is no such method, or an option is wrong.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, list(METHODS), n=1, cutoff=0.5)
        raise ConfigError(
            f"There is no training method {name!r}.",
            where="training.method in contlearn.toml",
            hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(METHODS)}.",
        )
    method = METHODS[name]
    try:
        return method(method.Options.model_validate(dict(options)))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        known = ", ".join(inspect.signature(method.Options).parameters) or "no options"
        raise ConfigError(
            f"The options of the training method {name!r} are wrong: {problems}.",
            where="training.method_options in contlearn.toml",
            hint=f"It takes: {known}.",
        ) from error
