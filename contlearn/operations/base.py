"""Trying a base model before anything is learnt from it."""

from __future__ import annotations

from dataclasses import replace

from contlearn.modeling.base_models import BaseLook, look_at_base
from contlearn.wording import first_line

__all__ = ["try_base"]


def try_base(name: str) -> BaseLook:
    """Look at a base model, and where it is on this machine load it and try it.

    It is let read a text, and a short copy of it, of two layers, is trained for a step, exported
    and compared, so that an encoder that cannot go is refused here and not by the first update.

    Args:
        name: As `model.base` has it.
    Returns:
        What was found; where it could not be tried, a note says why.
    Raises:
        ConfigError: When it is not there, would be read wrongly, or cannot be used.
    """
    look = look_at_base(name)
    if look.folder is None:
        return look
    why = ""
    if not any(look.folder.glob("*.safetensors")):
        why = "its weights (model.safetensors) are not on this machine"
    else:
        try:
            from contlearn.export.trial import try_encoder
        except Exception as error:  # whatever an installation that does not fit raises
            why = f"the packages for training cannot be imported here ({first_line(error)})"
    if why:
        said = f"The base model {name!r} was not tried, because {why}: the first update does it."
        return replace(look, notes=(*look.notes, said))
    limit, notes = try_encoder(name)
    return replace(look, limit=limit, notes=(*look.notes, *notes))
