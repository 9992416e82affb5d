"""Bodies that come packed: all of them is read, within bounds, or nothing is."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.wire import read_body

MOST = 1_000


def read(body, packing):
    """Read a body as the server does."""

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "headers": [(b"content-encoding", packing.encode())]}
    return asyncio.run(read_body(scope, receive, max_bytes=MOST, seconds=5.0))


def test_every_gzip_member_is_part_of_the_body():
    body = gzip.compress(b'{"texts": ["one"') + gzip.compress(b"") + gzip.compress(b', "two"]}')
    assert read(body, "gzip") == b'{"texts": ["one", "two"]}'


def test_one_zlib_stream_is_a_body():
    assert read(zlib.compress(b"{}"), "deflate") == b"{}"


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("tail", "status"), [(b"more", 400), (None, 400), (b"", 200)], ids=["more", "cut", "whole"]
)
def test_what_is_cut_or_followed_by_something_is_refused(packing, tail, status):
    body = (gzip.compress if packing == "gzip" else zlib.compress)(b"{}" * 400)
    body = body[:-3] if tail is None else body + tail
    try:
        found = 200 if read(body, packing) == b"{}" * 400 else 0
    except RequestProblem as problem:
        found = problem.status
    assert found == status


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_bound_holds_for_all_members_together(packing):
    pack = gzip.compress if packing == "gzip" else zlib.compress
    body = pack(b"a" * 600) + pack(b"b" * 600) if packing == "gzip" else pack(b"a" * 1200)
    with pytest.raises(RequestProblem) as caught:
        read(body, packing)
    assert caught.value.status == 413
