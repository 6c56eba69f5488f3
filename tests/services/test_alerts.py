"""Alerts against a mail server and a web server of our own on loopback."""

from __future__ import annotations

import http.server
import json
import logging
import socketserver
import threading

import pytest

from xrdct_beamline.callbacks.alert_watch import Alert, AlertKind
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.services.alerts import AlertSender, AlertSettings

DISK = Alert(kind=AlertKind.DISK, text="3.0 GB are free", time_s=12.5)


class Mailbox(socketserver.StreamRequestHandler):
    """Enough of SMTP to take one message."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().strip():
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while (text := self.rfile.readline()) != b".\r\n":
                    self.server.received.append(text.decode().rstrip())
            elif command == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(handler, answer=200):
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        server.received, server.answer, server.daemon_threads = [], answer, True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def address(server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/alert"


def test_an_alert_reaches_mail_and_webhook(serve):
    mail, hook = serve(Mailbox), serve(Hook)
    settings = AlertSettings(
        webhook=address(hook),
        email_to=("anna@example.org", "ben@example.org"),
        smtp_host="127.0.0.1",
        smtp_port=mail.server_address[1],
    )
    sender = AlertSender(settings)
    sender(DISK)
    sender.close()
    assert hook.received == [{"text": "3.0 GB are free", "kind": "disk", "time": 12.5}]
    assert "To: anna@example.org, ben@example.org" in mail.received
    assert "Subject: XRD-CT: disk" in mail.received
    assert "3.0 GB are free" in mail.received


def test_alerts_of_one_kind_are_limited_and_the_rest_is_counted(serve):
    hook = serve(Hook)
    now = [0.0]
    sender = AlertSender(AlertSettings(webhook=address(hook), min_interval_s=60.0), clock=lambda: now[0])
    for now[0] in (0.0, 10.0, 59.0, 60.0):
        sender(DISK)
    sender(Alert(kind=AlertKind.ENDED, text="another kind", time_s=60.0))
    sender.close()
    assert [sent["text"] for sent in hook.received] == [
        "3.0 GB are free",
        "3.0 GB are free (2 more of this kind since the last alert)",
        "another kind",
    ]


def test_what_cannot_be_sent_is_logged_and_the_next_channel_is_tried(serve, caplog):
    mail, hook = serve(Mailbox), serve(Hook, answer=500)
    settings = AlertSettings(
        webhook=address(hook), email_to=("a@b",), smtp_host="127.0.0.1", smtp_port=mail.server_address[1]
    )
    with caplog.at_level(logging.ERROR):
        sender = AlertSender(settings)
        sender(DISK)
        sender.close()
    assert "could not be sent by webhook" in caplog.text
    assert "500" in caplog.text
    assert "3.0 GB are free" in mail.received


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"webhook": "ftp://host/x"}, "http://"),
        ({"email_to": ("nobody",)}, "no address"),
        ({"stalled_s": -1.0}, "stalled_s is -1"),
        ({"smtp_port": 0}, "between 1 and 65535"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, says):
    with pytest.raises(ConfigurationError, match=says):
        AlertSettings(**setting)


def test_nobody_is_told_unless_somebody_is_named():
    assert not AlertSettings().is_wanted
    assert AlertSettings(webhook="https://host/x").is_wanted
