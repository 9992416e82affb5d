from __future__ import annotations

import contextlib
import resource

import pytest


@pytest.fixture
def file_size_limit():
    """Let no file grow beyond a size, as a disk that is full takes a part of what is written."""

    @contextlib.contextmanager
    def limited(size_bytes):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
