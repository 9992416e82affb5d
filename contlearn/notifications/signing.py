"""Signing webhooks so that a receiver knows who sent them and that nothing was changed.

Source: Standard Webhooks specification, "Signature scheme" (symmetric, v1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from contlearn.errors import ConfigError

__all__ = ["decode_secret", "new_secret", "sign"]

_PREFIX: Final = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


def new_secret() -> str:
    """Make a secret as the specification wants it: whsec_ and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def decode_secret(text: str, *, where: str) -> bytes:
    """Read a secret: base64, with or without whsec_ before it.

    Raises:
        ConfigError: When it is not base64, or not 24 to 64 bytes long. The secret is not shown.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(
            "The webhook's secret is not base64.",
            where=where,
            hint="It looks like whsec_ and 44 letters; `contlearn notify secret` makes one.",
        ) from error
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ConfigError(
            f"The webhook's secret has {len(key)} bytes; {_LEAST_BYTES} to {_MOST_BYTES} are asked "
            "for.",
            where=where,
            hint="`contlearn notify secret` makes one.",
        )
    return key


def sign(keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """Give the header webhook-signature: one signature a key, so that keys can be exchanged.

    Example:
        >>> sign([b"k" * 24], message_id="a", timestamp=1, body=b"{}")[:3]
        'v1,'
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join("v1," + base64.b64encode(digest).decode("ascii") for digest in digests)
