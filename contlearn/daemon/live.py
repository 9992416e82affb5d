"""Live measures of a server: what it counts at /metrics, as totals that can be subtracted."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from contlearn.errors import ServingError
from contlearn.wording import first_line

__all__ = ["LiveTotals", "quantile", "read_live"]

_REQUESTS: Final = "contlearn_http_requests_total"
_SECONDS: Final = "contlearn_http_request_duration_seconds_bucket"
_VERSION: Final = "contlearn_model_version"
# Routes that say how the server is, not what it answers.
_NOT_COUNTED: Final = ("metrics", "health", "docs", "openapi", "favicon")
_MOST_BYTES: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class LiveTotals:
    """Requests answered, those that failed by the server's fault, latencies by upper bound."""

    version: int | None = None
    requests: float = 0.0
    errors: float = 0.0
    buckets: Mapping[str, float] = field(default_factory=dict)

    def since(self, earlier: LiveTotals) -> LiveTotals:
        """Give what was counted after `earlier`; all of it when the server began anew."""
        if self.requests < earlier.requests or self.errors < earlier.errors:
            return self
        return LiveTotals(
            self.version,
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            {bound: n - earlier.buckets.get(bound, 0.0) for bound, n in self.buckets.items()},
        )

    def plus(self, other: LiveTotals) -> LiveTotals:
        """Add two spans together; the later one's version counts."""
        bounds = {**self.buckets, **other.buckets}
        return LiveTotals(
            other.version,
            self.requests + other.requests,
            self.errors + other.errors,
            {b: self.buckets.get(b, 0.0) + other.buckets.get(b, 0.0) for b in bounds},
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LiveTotals:
        """Make it from what `to_json` gave."""
        return cls(
            value["version"], float(value["requests"]), float(value["errors"]), value["buckets"]
        )


def read_live(
    url: str, model: str, *, certificate: Path | None = None, timeout_seconds: float = 3.0
) -> LiveTotals:
    """Ask a server for its totals of one model.

    Args:
        url: Its address.
        model: The name of the model; a server may have several.
        certificate: The server's own, where it is known: no other is taken then, whatever host it
            is made out to. The system's authorities decide if left out.
        timeout_seconds: How long to wait.
    Raises:
        ServingError: When nobody answers, or not as a server of this model does.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        trust = _trusting(certificate) if certificate else None
        with urllib.request.urlopen(  # noqa: S310  # an http address of the configuration
            f"{url}/metrics", timeout=timeout_seconds, context=trust
        ) as answer:
            text = answer.read(_MOST_BYTES).decode("utf-8", "replace")
        version: int | None = None
        requests = errors = 0.0
        buckets: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # Servers of before did not say which model a request was for.
                if sample.labels.get("model", model) != model:
                    continue
                route = sample.labels.get("route", "")
                counted = not any(part in route for part in _NOT_COUNTED)
                if sample.name == _VERSION:
                    version = int(sample.value)
                elif sample.name == _REQUESTS and counted:
                    requests += sample.value
                    errors += sample.value * sample.labels.get("code", "").startswith("5")
                elif sample.name == _SECONDS and counted:
                    bound = sample.labels["le"]
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        raise ServingError(
            f"The server's metrics cannot be read: {first_line(error)}.",
            where=f"{url}/metrics",
            hint="Start `contlearn serve`, or name its address in probation.server.",
        ) from error
    if version is None:
        raise ServingError(
            f"The server has no model {model!r}.",
            where=f"{url}/metrics",
            hint="Name the address of this model's server in probation.server.",
        )
    return LiveTotals(version, requests, errors, buckets)


def _trusting(certificate: Path) -> ssl.SSLContext:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # It is asked at the address it is bound to, which no certificate names.
    trust.check_hostname = False
    # The certificate itself is trusted, without the authority that signed it.
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trust.load_verify_locations(certificate)
    return trust


def quantile(totals: LiveTotals, share: float) -> float | None:
    """Estimate a quantile of the latency from the buckets, linear inside one.

    Units: seconds.
    Source: Prometheus documentation, histogram_quantile.
    Example:
        >>> quantile(LiveTotals(buckets={"0.1": 50.0, "0.2": 100.0, "+Inf": 100.0}), 0.75)
        0.15000000000000002
    """
    bounds = sorted((float(bound), count) for bound, count in totals.buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    wanted = share * bounds[-1][1]
    low, below = 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
