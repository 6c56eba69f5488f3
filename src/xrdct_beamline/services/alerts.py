"""Alerts by e-mail and webhook: sent from a thread of their own, limited in rate, never in the way."""

from __future__ import annotations

import json
import logging
import queue
import shutil
import smtplib
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from xrdct_beamline.callbacks.alert_watch import Alert, AlertKind, AlertWatch
from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["AlertSender", "AlertSettings", "Watch"]

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_QUEUE_LIMIT = 200
#: How often the clock and the disk are looked at.
_LOOK_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """Who is told, of what, and how often.

    Parameters
    ----------
    webhook:
        Address that gets a POST with JSON ``{"text": …, "kind": …, "time": …}``; chat services take it.
    email_to, email_from, smtp_host, smtp_port:
        E-mail through a server that takes mail without a password, as a laboratory's relay does.
    stalled_s, min_free_GB:
        As in `AlertWatch`.
    min_interval_s:
        Least time between two alerts of one kind; what came in between is counted in the next.
    """

    webhook: str = ""
    email_to: tuple[str, ...] = ()
    email_from: str = "xrdct@localhost"
    smtp_host: str = "localhost"
    smtp_port: int = 25
    stalled_s: float = 300.0
    min_free_GB: float = 50.0
    min_interval_s: float = 300.0

    def __post_init__(self) -> None:
        if self.webhook and urllib.parse.urlsplit(self.webhook).scheme not in ("http", "https"):
            raise ConfigurationError(f"webhook is {self.webhook!r}; it must begin with http:// or https://")
        if bad := [address for address in self.email_to if "@" not in address]:
            raise ConfigurationError(f"email_to holds {bad[0]!r}, which is no address; write name@host")
        for name in ("stalled_s", "min_free_GB", "min_interval_s"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 < self.smtp_port < 65536:
            raise ConfigurationError(f"smtp_port is {self.smtp_port}; it must lie between 1 and 65535")

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.webhook or self.email_to)


class Watch:
    """The documents, the clock and the disk, looked at while a journal is followed.

    Parameters
    ----------
    settings:
        Who is told; without, nothing is watched.
    folder:
        Its disk is watched until a line tells where the raw data go.
    """

    def __init__(self, settings: AlertSettings | None, folder: Path) -> None:
        wanted = settings if settings is not None and settings.is_wanted else None
        self._sender = None if wanted is None else AlertSender(wanted)
        self._watch: AlertWatch | None = None
        if wanted is not None and self._sender is not None:
            self._watch = AlertWatch(
                self._sender, stalled_s=wanted.stalled_s, min_free_GB=wanted.min_free_GB, since_s=time.time()
            )
        self._folder = folder
        self._looked_s = float("-inf")

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document; one that cannot be understood is logged."""
        if self._watch is None:
            return
        try:
            raw_file = str(doc.get("data", {}).get("line_raw_file") or "") if name == "event" else ""
            if raw_file:
                self._folder = Path(raw_file).parent
            self._watch(name, doc)
        except Exception:  # a document that cannot be watched must not end the service
            logger.exception("a %s could not be watched", name)

    def look(self) -> None:
        """Look at the clock and the disk, at most once in a few seconds."""
        now_s = time.monotonic()
        if self._watch is None or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        try:
            free_GB = shutil.disk_usage(self._folder).free / 1e9
        except OSError:
            free_GB = None  # the folder is on another machine, or gone; the rest is watched still
        self._watch.check(time.time(), free_GB)

    def close(self) -> None:
        """Send what waits and end."""
        if self._sender is not None:
            self._sender.close()


class AlertSender:
    """Sends alerts one after another; what cannot be sent is logged, and nothing waits for it.

    Parameters
    ----------
    settings:
        Who is told.
    clock:
        Seconds; stands in for the monotonic clock in tests.
    """

    def __init__(self, settings: AlertSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._sent_s: dict[AlertKind, float] = {}
        self._held_back: dict[AlertKind, int] = {}
        self._queue: queue.Queue[Alert | None] = queue.Queue(_QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name="xrdct-alerts", daemon=True)
        self._thread.start()

    def __call__(self, alert: Alert) -> None:
        """Take an alert; returns at once."""
        logger.warning("%s: %s", alert.kind, alert.text)
        last_s = self._sent_s.get(alert.kind)
        now_s = self._clock()
        if last_s is not None and now_s - last_s < self._settings.min_interval_s:
            self._held_back[alert.kind] = self._held_back.get(alert.kind, 0) + 1
            return
        self._sent_s[alert.kind] = now_s
        more = self._held_back.pop(alert.kind, 0)
        if more:
            text = f"{alert.text} ({more} more of this kind since the last alert)"
            alert = Alert(kind=alert.kind, text=text, time_s=alert.time_s)
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            logger.error("%d alerts wait to be sent; this one is not: %s", _QUEUE_LIMIT, alert.text)

    def close(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Send what waits, as far as the time allows, and end."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (alert := self._queue.get()) is not None:
            for channel, send in self._channels():
                try:
                    send(alert)
                except (OSError, smtplib.SMTPException, urllib.error.URLError, ValueError) as error:
                    logger.error("an alert could not be sent by %s (%s): %s", channel, error, alert.text)

    def _channels(self) -> Sequence[tuple[str, Callable[[Alert], None]]]:
        settings = self._settings
        channels: list[tuple[str, Callable[[Alert], None]]] = []
        if settings.webhook:
            channels.append((f"webhook {settings.webhook}", self._post))
        if settings.email_to:
            channels.append((f"e-mail through {settings.smtp_host}:{settings.smtp_port}", self._mail))
        return channels

    def _post(self, alert: Alert) -> None:
        body = json.dumps({"text": alert.text, "kind": alert.kind, "time": alert.time_s}).encode()
        request = urllib.request.Request(  # noqa: S310 - the settings admit http and https alone
            self._settings.webhook, data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            pass

    def _mail(self, alert: Alert) -> None:
        message = EmailMessage()
        message["Subject"] = f"XRD-CT: {alert.kind}"
        message["From"] = self._settings.email_from
        message["To"] = ", ".join(self._settings.email_to)
        message.set_content(alert.text + "\n")
        with smtplib.SMTP(self._settings.smtp_host, self._settings.smtp_port, timeout=_TIMEOUT_S) as server:
            server.send_message(message)
