"""[serving]: where versions are served from, and the server."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from contlearn.config.base import Section

__all__ = ["ServingConfig"]


class ServingConfig(Section):
    """[serving]: where versions are served from, and the server."""

    path: str = Field(
        "serving",
        description="The folder that promotions are published in; a path is taken from the "
        "workspace.",
    )
    host: str = Field(
        "127.0.0.1",
        description="The address that the server listens at; 0.0.0.0 for every one of this "
        "machine.",
    )
    port: int = Field(8080, ge=0, le=65535, description="Its port; 0: any that is free.")
    socket: str = Field(
        "",
        description="A Unix socket that the server listens at instead of host and port; a path is "
        "taken from the workspace.",
    )
    root_path: str = Field(
        "",
        description="The path that a proxy serves this server below, such as /contlearn; requests "
        "are answered with it and without.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names that requests may ask for (header Host), beside addresses, names "
        "without a dot, the machine's own and those of a cluster; `*.example.com`: all below it; "
        "`*`: any.",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Pages of elsewhere that may ask from a browser, such as https://example.com;"
        " `*`: any.",
    )
    poll_seconds: float = Field(
        1.0,
        gt=0.0,
        description="Seconds between two looks at which version is champion.",
    )
    max_body_bytes: int = Field(
        4_000_000, ge=1_000, description="Bytes of a request's body; a larger one is answered 413."
    )
    max_texts: int = Field(1_000, ge=1, description="Texts of one request; more are answered 413.")
    threads: int = Field(
        0,
        ge=0,
        description="Worker processes (or threads, see `isolation`); 0: what `bench serving` "
        "found, else one for each core.",
    )
    isolation: Literal["processes", "threads"] = Field(
        "processes",
        description="Whether workers are processes of their own, or threads of the server: less "
        "memory, slower.",
    )
    intra_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads that one run of the model computes with; 0: what `bench serving` "
        "found, else 1.",
    )
    batch_texts: int = Field(
        0,
        ge=0,
        le=1_024,
        description="Texts that a worker is given at once; 0: what `bench serving` found, else the "
        "default.",
    )
    max_wait_seconds: float = Field(
        1.0,
        gt=0.0,
        description="Seconds that a request may wait for its turn; what would wait longer is "
        "answered 503.",
    )
    deadline_seconds: float = Field(
        10.0, gt=0.0, description="Seconds that a whole request may take."
    )
    drain_seconds: float = Field(
        30.0,
        ge=0.0,
        description="Seconds that running requests have to end, at a swap of versions and when "
        "the server stops.",
    )
    feedback_token_file: str = Field(
        "",
        description="A file with one token that may send feedback; `tokens_file` does this and "
        "more.",
    )
    tokens_file: str = Field(
        "",
        description="A file of lines ROLE TOKEN, the role being predict, feedback or control; "
        "without a token of feedback or control those routes do not exist.",
    )
    tls_certificate: str = Field(
        "",
        description="The file of the server's certificate (PEM); with `tls_key` it speaks HTTPS.",
    )
    tls_key: str = Field("", description="The file of the certificate's private key (PEM).")
    tls_client_authorities: str = Field(
        "",
        description="The file of authorities (PEM) of which a client must show a certificate; "
        "empty: none is asked for.",
    )
    max_connections: int = Field(
        1_000, ge=1, description="Connections held at once; further ones are answered 503."
    )
    also_versions: tuple[int, ...] = Field(
        (),
        max_length=4,
        description="Further versions, four at most, that can be asked for by number.",
    )
    canary_version: int | Literal["challenger"] = Field(
        0,
        description='A version that answers a share of the requests, or "challenger" for the '
        "newest above the champion that the gate let pass; 0: none.",
    )
    canary_share: float = Field(
        0.05, ge=0.0, le=1.0, description="The share of requests, 0 to 1, that the canary answers."
    )
    canary_max_latency_ratio: float = Field(
        2.0,
        ge=1.0,
        description="The canary is stopped when its median time exceeds so many times the "
        "champion's.",
    )
    shadow_version: int | Literal["challenger"] = Field(
        0,
        description="A version that computes beside the champion and never answers, or "
        '"challenger"; 0: none.',
    )
    shadow_share: float = Field(
        1.0, ge=0.0, le=1.0, description="The share of requests, 0 to 1, that the shadow sees."
    )

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        """Take an address of IPv6 also as it stands in a URL."""
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @field_validator("root_path")
    @classmethod
    def _one_slash_before(cls, path: str) -> str:
        path = path.rstrip("/")
        if path and not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+", path):
            raise ValueError("not a path such as /contlearn")
        return path

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and not re.fullmatch(r"(?:\*\.)?[A-Za-z0-9._-]+", host):
                raise ValueError(f"{host!r} is no name such as example.com, *.example.com, or *")
        return hosts

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+/?", origin):
                raise ValueError(f"{origin!r} is no origin such as https://example.com, or *")
        return tuple(origin.rstrip("/").lower() for origin in origins)
