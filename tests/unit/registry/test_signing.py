from __future__ import annotations

import json
import subprocess
import sys

import pytest

from contlearn.config import SigningConfig
from contlearn.errors import ConfigError, RegistryError
from contlearn.inference.manifest import SIGNATURE
from contlearn.inference.signature import require_signature, signature_problems
from contlearn.papers.manifest import MANIFEST
from contlearn.registry.promotion import promote
from contlearn.registry.serving_copy import verify_serving
from tests.unit.registry.staged import make_registry, promoted, register

pytest.importorskip("model_signing")


def write_keys(folder, name):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path, "ours")


@pytest.fixture
def registry(tmp_path, keys):
    made = make_registry(tmp_path / "ws")
    signing = SigningConfig(private_key=str(keys[0]), public_key=str(keys[1]))
    made.config = made.config.model_copy(update={"signing": signing})
    return made


def _opened(path):
    for folder in (path.parent, path):
        folder.chmod(0o755)
    return path


def test_versions_are_signed_and_their_signature_is_checked(registry, keys):
    promoted(registry, "c1")
    assert registry.verify(1) == []
    assert verify_serving(registry) == []
    for folder in (registry.get(1).path, registry.serving.root / "1"):
        assert signature_problems(folder, keys[1]) == []
    assert SIGNATURE not in json.loads((registry.get(1).path / MANIFEST).read_bytes())["files"]


def test_signature_is_one_that_others_can_check(registry, keys, tmp_path):
    register(registry, "c1")
    folder = registry.get(1).path
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / SIGNATURE), "--ignore_unsigned_files", "--public_key"]
    done = subprocess.run([*command, str(keys[1])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    other = write_keys(tmp_path, "theirs")[1]
    done = subprocess.run([*command, str(other)], capture_output=True, text=True, check=False)
    assert done.returncode != 0


@pytest.mark.parametrize(
    "damage", ["missing", "other key", "manifest", "rubbish", "link", "foreign"]
)
def test_version_without_a_valid_signature_is_refused_by_name(registry, keys, tmp_path, damage):
    register(registry, "c1")
    folder = registry.get(1).path
    path = _opened(folder / SIGNATURE)
    if damage == "missing":
        path.unlink()
    elif damage == "other key":
        private, _ = write_keys(tmp_path, "theirs")
        other = make_registry(tmp_path / "other")
        other.config = other.config.model_copy(
            update={"signing": SigningConfig(private_key=str(private))}
        )
        path.write_bytes((register(other, "c1").path / SIGNATURE).read_bytes())
    elif damage == "manifest":
        manifest = folder / MANIFEST
        manifest.chmod(0o644)
        manifest.write_text(manifest.read_text().replace('"accuracy": 0.9', '"accuracy": 1.0'))
    elif damage == "rubbish":
        path.write_bytes(b"{}")
    elif damage == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        # Signed by the right key, but for another thing than the manifest.
        from model_signing import signing

        thing = tmp_path / "thing"
        thing.mkdir()
        (thing / "tokenizer.json").write_bytes(b"{}")
        signing.Config().use_elliptic_key_signer(private_key=keys[0]).sign(thing, path)
        (folder / "tokenizer.json").write_bytes(b"{}")
    assert any(SIGNATURE in problem for problem in registry.verify(1))
    with pytest.raises(RegistryError, match=SIGNATURE):
        promote(registry, 1, actor="ada", reason="", force=True)
    with pytest.raises(RegistryError, match=SIGNATURE):
        require_signature(folder, keys[1])
    assert registry.champion() is None


def test_unsigned_version_is_refused_only_where_a_public_key_is_set(registry, keys):
    registry.config = registry.config.model_copy(update={"signing": SigningConfig()})
    promoted(registry, "c1")
    registry.config = registry.config.model_copy(
        update={"signing": SigningConfig(public_key=str(keys[1]))}
    )
    assert registry.verify(1) == [f"{SIGNATURE} is missing: the version is not signed"]
    assert "not signed" in verify_serving(registry)[0]


def test_served_copy_with_a_forged_manifest_is_seen(registry, keys):
    promoted(registry, "c1")
    manifest = _opened(registry.serving.root / "1" / MANIFEST)
    manifest.write_text(manifest.read_text().replace('"accuracy": 0.9', '"accuracy": 1.0'))
    assert "does not hold for manifest.json" in signature_problems(manifest.parent, keys[1])[0]


def test_key_that_cannot_sign_is_named(registry, tmp_path):
    bad = tmp_path / "bad.pem"
    registry.config = registry.config.model_copy(
        update={"signing": SigningConfig(private_key=str(bad))}
    )
    with pytest.raises(ConfigError, match="There is no key") as caught:
        register(registry, "c1")
    assert "openssl" in caught.value.hint
    bad.write_text("no key")
    with pytest.raises(ConfigError, match="cannot sign"):
        register(registry, "c2")
    assert registry.numbers() == ()
