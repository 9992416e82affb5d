"""The four ways to tell: a signed webhook, a Slack-compatible hook, an e-mail, a command."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from contlearn.config import ChannelConfig
from contlearn.errors import ConfigError
from contlearn.notifications.messages import Message, render
from contlearn.notifications.signing import decode_secret, sign
from contlearn.version import __version__

__all__ = ["Delivery", "deliver"]

_AGENT: Final = f"contlearn/{__version__}"
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a try went. `again` says whether another one makes sense."""

    ok: bool
    said: str = ""
    again: bool = True


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed body goes where the configuration says, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse."""


_OPENER: Final = urllib.request.build_opener(_NoRedirects)


def deliver(channel: ChannelConfig, message: Message, *, root: Path, now: float) -> Delivery:
    """Try once to tell a channel. Never raises for what the other side does.

    Args:
        channel: Where to.
        message: What.
        root: The workspace; files with secrets are relative to it.
        now: The time of the signature, in seconds since the epoch.
    """
    try:
        if channel.kind == "webhook":
            return _webhook(channel, message, root, now)
        if channel.kind == "slack":
            return _slack(channel, message, root)
        if channel.kind == "email":
            return _email(channel, message, root)
        return _command(channel, message)
    except ConfigError as error:
        return Delivery(ok=False, said=str(error))
    except Exception as error:
        # Whatever a network, a mail server or a program does, the others are still told.
        return Delivery(ok=False, said=f"{type(error).__name__}: {error}"[:300])


def _webhook(channel: ChannelConfig, message: Message, root: Path, now: float) -> Delivery:
    body = json.dumps(message.body(), ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = int(now)
    headers = {"webhook-id": message.message_id, "webhook-timestamp": str(timestamp)}
    if channel.secret_file:
        lines = _lines(channel.secret_file, root, channel.name)
        keys = [decode_secret(line, where=channel.secret_file) for line in lines]
        headers["webhook-signature"] = sign(
            keys, message_id=message.message_id, timestamp=timestamp, body=body
        )
    return _post(channel, root, body, headers)


def _slack(channel: ChannelConfig, message: Message, root: Path) -> Delivery:
    """Post a body as Slack's incoming webhooks take it; Mattermost and others take it too."""
    title, text = render(channel, message)
    # & < > are the three characters that mean something there.
    title, text = (
        part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        for part in (title, text)
    )
    value = {
        "text": f"*{title}*\n{text}",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
            {"type": "section", "text": {"type": "mrkdwn", "text": text[:2900] or "–"}},
        ],
    }
    return _post(channel, root, json.dumps(value, ensure_ascii=False).encode(), {})


def _post(channel: ChannelConfig, root: Path, body: bytes, headers: Mapping[str, str]) -> Delivery:
    url = channel.url or _lines(channel.url_file, root, channel.name)[0]
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            "The address is not an http or https address.",
            where=channel.url_file,
            hint="Put the whole address on the first line of the file.",
        )
    request = urllib.request.Request(  # noqa: S310  # the scheme was just checked
        url,
        data=body,
        method="POST",
        headers={"content-type": "application/json", "user-agent": _AGENT, **headers},
    )
    try:
        with _OPENER.open(request, timeout=channel.timeout) as answer:
            return Delivery(ok=200 <= answer.status < 300, said=f"HTTP {answer.status}")
    except urllib.error.HTTPError as error:
        error.close()
        return Delivery(ok=False, said=f"HTTP {error.code}", again=error.code != _GONE)


def _email(channel: ChannelConfig, message: Message, root: Path) -> Delivery:
    import smtplib
    import ssl

    title, text = render(channel, message)
    mail = EmailMessage()
    mail["Subject"] = title
    mail["From"] = channel.sender
    mail["To"] = ", ".join(channel.to)
    mail["Date"] = format_datetime(message.at)
    domain = channel.sender.rpartition("@")[2].strip("<> ") or "localhost"
    # The same id at every try: mail programs show a repeated one once.
    mail["Message-ID"] = f"<{message.message_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    details = json.dumps(message.body(), ensure_ascii=False, indent=1)
    mail.set_content(f"{text}\n\n{details}\n")
    security = ssl.create_default_context() if channel.security != "none" else None
    client: smtplib.SMTP
    if channel.security == "tls":
        client = smtplib.SMTP_SSL(
            channel.host, channel.port, timeout=channel.timeout, context=security
        )
    else:
        client = smtplib.SMTP(channel.host, channel.port, timeout=channel.timeout)
    with client:
        if channel.security == "starttls":
            client.starttls(context=security)
        if channel.username:
            password = _lines(channel.password_file, root, channel.name)[0]
            client.login(channel.username, password)
        refused = client.send_message(mail)
    return Delivery(ok=not refused, said=", ".join(refused) or "accepted")


def _command(channel: ChannelConfig, message: Message) -> Delivery:
    """Run a program: the body on standard input, title and text in the environment. No shell."""
    title, text = render(channel, message)
    done = subprocess.run(
        list(channel.command),
        input=json.dumps(message.body(), ensure_ascii=False).encode(),
        env={
            **os.environ,
            "CONTLEARN_EVENT": message.kind,
            "CONTLEARN_EVENT_ID": message.message_id,
            "CONTLEARN_TITLE": title,
            "CONTLEARN_TEXT": text.replace("\0", ""),
        },
        capture_output=True,
        timeout=channel.timeout,
        check=False,
    )
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
    return Delivery(ok=done.returncode == 0, said=f"exit code {done.returncode} {last[0]}".strip())


def _lines(name: str, root: Path, channel: str) -> list[str]:
    path = root / name
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The file {name!r} of the channel {channel!r} cannot be read.",
            where=str(path),
            hint="Write the secret on its first line, readable for this user only.",
        ) from error
    lines = [line for line in lines if line]
    if not name or not lines:
        raise ConfigError(
            f"The channel {channel!r} names no file with a secret, or an empty one.",
            where=str(path),
            hint="Write the secret on its first line, readable for this user only.",
        )
    return lines
