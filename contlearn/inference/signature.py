"""The signature of a version: made over its manifest, which holds the SHA-256 of every file.

model-signing (OpenSSF, of the sigstore project) makes and checks it: an in-toto statement in a
sigstore bundle, signed with a key of one's own, offline. So it can be checked without contlearn:
`model_signing verify key --signature model.sig --public_key KEY --ignore_unsigned_files FOLDER`.
The same file holds for versions/<n> and for the copy that is served.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, Final

from contlearn.errors import ConfigError, RegistryError
from contlearn.inference.manifest import SIGNATURE, link_problem
from contlearn.papers.manifest import MANIFEST
from contlearn.wording import first_line

__all__ = ["require_signature", "require_signing", "sign_manifest", "signature_problems"]

_OPENSSL: Final = (
    "`openssl ecparam -name prime256v1 -genkey -noout -out signing.pem` makes a key, "
    "`openssl ec -in signing.pem -pubout -out signing.pub` its public part."
)


def require_signing(key: Path, *, where: str) -> None:
    """Check, before anything else is done, that a key is there and can be used.

    Raises:
        ConfigError: When the key or the library is missing.
    """
    if importlib.util.find_spec("model_signing") is None:
        raise ConfigError(
            "Signing needs the library model-signing, which is not installed.",
            where=where,
            hint="Install it with `pip install 'contlearn[signing]'`.",
        )
    if not key.is_file():
        raise ConfigError(f"There is no key {key}.", where=where, hint=_OPENSSL)


def sign_manifest(manifest: bytes, private_key: Path) -> bytes:
    """Sign the bytes of a manifest.

    Returns:
        What is written to `model.sig`.
    Raises:
        ConfigError: When the key cannot be used.
    """
    require_signing(private_key, where="signing.private_key")
    from model_signing import signing

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "version"
        root.mkdir()
        (root / MANIFEST).write_bytes(manifest)
        target = Path(folder) / SIGNATURE
        try:
            maker: Any = signing.Config
            config = maker().use_elliptic_key_signer(private_key=private_key)
            config.sign(root, target)
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(
                f"The key cannot sign: {error}",
                where=f"signing.private_key = {private_key}",
                hint="It must be an elliptic curve key (P-256, P-384 or P-521) without a password, "
                f"in PEM. {_OPENSSL}",
            ) from error
        return target.read_bytes()


def signature_problems(folder: Path, public_key: Path) -> list[str]:
    """Check that the holder of the key has signed the manifest of a folder.

    Args:
        folder: versions/<n>, or the copy that is served.
        public_key: In PEM.
    Returns:
        One sentence a problem, naming the file; nothing when all is well.
    Raises:
        ConfigError: When there is no such key, or no library to check with.
    """
    require_signing(public_key, where="signing.public_key")
    from model_signing import verifying

    try:
        problem = link_problem(folder / SIGNATURE)
    except FileNotFoundError:
        return [f"{SIGNATURE} is missing: the version is not signed"]
    if problem is not None:
        return [f"{SIGNATURE} {problem}"]
    try:
        maker: Any = verifying.Config  # partly untyped
        config = maker().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"The key cannot be read: {error}", where=f"signing.public_key = {public_key}",
            hint=_OPENSSL,
        ) from error  # fmt: skip
    try:
        config.set_ignore_unsigned_files(ignore_unsigned_files=True)
        config.verify(folder, folder / SIGNATURE)
    # What a forged file makes the library raise is not ours to foresee.
    except Exception as error:
        reason = first_line(error)
        return [f"{SIGNATURE} does not hold for {MANIFEST}: {reason}"]
    return [] if _names_manifest(folder) else [f"{SIGNATURE} does not cover {MANIFEST}"]


def _names_manifest(folder: Path) -> bool:
    """Say whether the signed statement speaks of the manifest; it was verified before."""
    import base64
    import json

    bundle = json.loads((folder / SIGNATURE).read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    resources = statement["predicate"]["resources"]
    return any(resource["name"] == MANIFEST for resource in resources)


def require_signature(folder: Path, public_key: Path) -> None:
    """Refuse a folder that is not signed by the holder of the key.

    Raises:
        RegistryError: When it is not, naming the file.
        ConfigError: When there is no such key, or no library to check with.
    """
    problems = signature_problems(folder, public_key)
    if problems:
        raise RegistryError(
            f"The signature is refused: {'; '.join(problems)}.",
            where=str(folder),
            hint="Only versions signed with signing.private_key are used while "
            "signing.public_key is set.",
        )
