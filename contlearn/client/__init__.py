"""A client of `contlearn serve`, synchronous and asynchronous: pip install 'contlearn[client]'.

Example:
    with Client("http://127.0.0.1:8080") as client:
        answer = client.predict(["where is my parcel?"])
        print(answer.predictions[0].label, answer.version)
        client.feedback(answer.request_id, "shipping")
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from contlearn.arguments import require_several
from contlearn.client.answers import (
    Answer,
    PredictedEntity,
    PredictedText,
    Taken,
    UnreadWords,
    read_answer,
    read_taken,
)
from contlearn.client.retries import ClientError, Retries, problem_of
from contlearn.errors import ServingError

if TYPE_CHECKING:
    import httpx

# A class, tags or entities, a number: what a row of the task holds in the field of its target.
Label: TypeAlias = "str | float | Sequence[str | Mapping[str, Any]] | Mapping[str, Any]"

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "PredictedEntity",
    "PredictedText",
    "Retries",
    "Taken",
    "UnreadWords",
]

_Body = Mapping[str, Any] | None


class _Base:
    """What both clients share: paths, bodies and headers.

    Args:
        address: Of the server, for example http://127.0.0.1:8080.
        model: Of several models of one server; the server's first if left out.
        token: Sent as bearer token: feedback and changes need one.
        timeout_seconds: For one call, all its attempts together.
        retries: What is tried again, and how long to wait in between.
        verify: False trusts any certificate; a path names the authorities to trust.
        transport: httpx's, for tests or proxies.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str | None = None,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        retries: Retries | None = None,
        verify: bool | str = True,
        transport: Any = None,
    ) -> None:
        if not address.startswith(("http://", "https://")):
            raise ServingError(
                f"{address!r} is not the address of a server.",
                where="contlearn.client",
                hint='Begin with "http://" or "https://".',
            )
        self.retries = retries or Retries()
        self.timeout_seconds = timeout_seconds
        self._prefix = "" if model is None else f"/models/{model}"
        self._options: dict[str, Any] = {
            "base_url": address.rstrip("/"),
            "headers": {} if token is None else {"authorization": f"Bearer {token}"},
            "verify": verify,
            "transport": transport,
        }

    def _predict_body(
        self, texts: Sequence[str | Mapping[str, Any]], top: int | None, deadline: float | None
    ) -> dict[str, Any]:
        require_several(texts, what="text", where="predict")
        plain = all(isinstance(text, str) for text in texts)
        body: dict[str, Any] = {"texts" if plain else "inputs": list(texts)}
        if top is not None:
            body["top"] = top
        if deadline is not None:
            body["deadline_seconds"] = deadline
        return body


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise ServingError(
            "The client needs httpx, which is not installed.",
            where="contlearn.client",
            hint="pip install 'contlearn[client]'",
        ) from error
    return httpx


class Client(_Base):
    """Asks a server and waits for its answer; safe to use from several threads."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._http: httpx.Client = _httpx().Client(**self._options)

    def predict(
        self,
        texts: Sequence[str | Mapping[str, Any]],
        *,
        top: int | None = None,
        deadline_seconds: float | None = None,
    ) -> Answer:
        """Ask for one prediction a text, in order.

        Args:
            texts: Texts, or objects with the task's fields.
            top: At most so many scores a text.
            deadline_seconds: The server gives up after this long.
        Raises:
            ClientError: When the server refuses, or cannot be reached in time.
            UsageError: When one text is given outside a list.
        """
        body = self._predict_body(texts, top, deadline_seconds)
        return read_answer(self._call("POST", f"{self._prefix}/predict", body))

    def predict_many(
        self, texts: Sequence[str | Mapping[str, Any]], *, texts_per_request: int = 256
    ) -> Iterator[PredictedText]:
        """Ask for any number of predictions, request by request.

        Raises:
            UsageError: When one text is given outside a list.
        """
        require_several(texts, what="text", where="predict_many")
        return self._many(texts, texts_per_request)

    def _many(
        self, texts: Sequence[str | Mapping[str, Any]], texts_per_request: int
    ) -> Iterator[PredictedText]:
        for start in range(0, len(texts), texts_per_request):
            yield from self.predict(texts[start : start + texts_per_request]).predictions

    def feedback(
        self,
        request_id: str,
        label: Label,
        *,
        index: int = 0,
        text: str | None = None,
    ) -> Taken:
        """Give the right label of an earlier request; sent twice, it counts once.

        Raises:
            ClientError: When the server refuses, or cannot be reached in time.
        """
        item = _label(request_id, label, index, text)
        return read_taken(self._call("POST", f"{self._prefix}/feedback", item))

    def status(self) -> dict[str, Any]:
        """Give what is served."""
        return self._call("GET", f"{self._prefix}/status", None)

    def is_ready(self) -> bool:
        """Say whether a version can answer; False also when nobody listens."""
        try:
            return bool(self._http.get("/health/ready", timeout=5.0).status_code == 200)
        except _httpx().HTTPError:
            return False

    def wait_until_ready(self, timeout_seconds: float = 60.0) -> None:
        """Wait for the server.

        Raises:
            ClientError: When it is not ready in time.
        """
        until = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if time.monotonic() > until:
                raise ClientError("The server is not ready.", status=None)
            time.sleep(0.1)

    def _call(self, method: str, path: str, body: _Body) -> dict[str, Any]:
        attempt = self.retries.begin(self.timeout_seconds)
        while True:
            response: httpx.Response | None = None
            error: Exception | None = None
            try:
                response = self._http.request(
                    method, path, json=body, headers=attempt.headers, timeout=attempt.left()
                )
            except _httpx().TransportError as caught:
                error = caught
            if response is not None and response.is_success:
                return dict(response.json())
            delay = attempt.delay(response)
            if delay is None:
                raise problem_of(response, error) from error
            time.sleep(delay)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Base):
    """The same for asyncio."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._http: httpx.AsyncClient = _httpx().AsyncClient(**self._options)

    async def predict(
        self,
        texts: Sequence[str | Mapping[str, Any]],
        *,
        top: int | None = None,
        deadline_seconds: float | None = None,
    ) -> Answer:
        """Ask for one prediction a text; see `Client.predict`."""
        body = self._predict_body(texts, top, deadline_seconds)
        return read_answer(await self._call("POST", f"{self._prefix}/predict", body))

    async def feedback(
        self,
        request_id: str,
        label: Label,
        *,
        index: int = 0,
        text: str | None = None,
    ) -> Taken:
        """Give the right label of an earlier request; see `Client.feedback`."""
        item = _label(request_id, label, index, text)
        return read_taken(await self._call("POST", f"{self._prefix}/feedback", item))

    async def status(self) -> dict[str, Any]:
        """Give what is served."""
        return await self._call("GET", f"{self._prefix}/status", None)

    async def is_ready(self) -> bool:
        """Say whether a version can answer; False also when nobody listens."""
        try:
            response = await self._http.get("/health/ready", timeout=5.0)
        except _httpx().HTTPError:
            return False
        return bool(response.status_code == 200)

    async def _call(self, method: str, path: str, body: _Body) -> dict[str, Any]:
        attempt = self.retries.begin(self.timeout_seconds)
        while True:
            response: httpx.Response | None = None
            error: Exception | None = None
            try:
                response = await self._http.request(
                    method, path, json=body, headers=attempt.headers, timeout=attempt.left()
                )
            except _httpx().TransportError as caught:
                error = caught
            if response is not None and response.is_success:
                return dict(response.json())
            delay = attempt.delay(response)
            if delay is None:
                raise problem_of(response, error) from error
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _label(request_id: str, label: Label, index: int, text: str | None) -> dict[str, Any]:
    item: dict[str, Any] = {
        "request_id": request_id,
        "index": index,
        "label": list(label) if isinstance(label, tuple) else label,
    }
    if text is not None:
        item["text"] = text
    return item
