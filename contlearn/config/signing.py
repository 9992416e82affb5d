"""[signing]: keys of versions."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["SigningConfig"]


class SigningConfig(Section):
    """[signing]: keys of versions; paths are taken from the workspace."""

    private_key: str = Field(
        "",
        description="The file of the key (PEM, elliptic curve) that new versions are signed with.",
    )
    public_key: str = Field(
        "",
        description="The file of the key that versions are checked against; once set, an unsigned"
        " one is refused.",
    )
