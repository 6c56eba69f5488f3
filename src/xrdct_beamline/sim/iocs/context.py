"""The Channel Access server: loopback, one port or none, and no waiting for more data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Any

import caproto
import caproto.server.common
from caproto.asyncio.server import Context

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["reserve_port", "serve_channels"]

LOOPBACK = "127.0.0.1"

#: caproto waits so long for further updates before it sends one; its default of 10 ms is felt in
#: every move. The module constant is read at run time, its environment variable only at import.
BATCHING_S = 0.0005

#: How long a thread may keep the interpreter from the event loop.
SWITCH_S = 0.0005

#: Seconds between beacons at first and later on, as the protocol recommends.
BEACON_FIRST_S, BEACON_LAST_S = 0.02, 15.0


def reserve_port() -> socket.socket:
    """Return a listening socket at the port in EPICS_CA_SERVER_PORT, on loopback.

    Raises
    ------
    ConfigurationError
        If the port is in use, for connections (TCP) or for the searches that lead to them (UDP).
    """
    port = int(caproto.get_environment_variables()["EPICS_CA_SERVER_PORT"])
    # asyncio sets TCP_NODELAY only on sockets that name their protocol
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((LOOPBACK, port))
        listening.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((LOOPBACK, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"port {port} on {LOOPBACK} is in use ({error.strerror}); end the other server, or set "
            "EPICS_CA_SERVER_PORT to a free port here and for the clients"
        ) from error
    return listening


class LoopbackServer(Context):
    """A caproto server at a given port, which sends small packets at once.

    caproto's own takes a random port when the one that clients search at is busy, and makes its
    listening socket in a way that keeps asyncio from setting TCP_NODELAY: 40 ms per exchange.
    """

    def __init__(self, pvdb: dict[str, Any], listening: socket.socket) -> None:
        super().__init__(pvdb, [LOOPBACK])
        self._listening = listening

    async def _bind_tcp_sockets_with_consistent_port_number(
        self, make_socket: Any
    ) -> tuple[int, dict[str, socket.socket]]:
        return self._listening.getsockname()[1], {LOOPBACK: self._listening}

    async def broadcast_beacon_loop(self) -> None:
        """Announce the server at a falling rate, so that clients of an earlier one reconnect.

        Without a CA repeater nobody listens, and caproto would log an error per beacon.
        """
        period_s = BEACON_FIRST_S
        while True:
            for interface, sock in self.beacon_socks.values():
                beacon = caproto.Beacon(
                    caproto.DEFAULT_PROTOCOL_VERSION, self.port, self.beacon_count, interface
                )
                with contextlib.suppress(caproto.CaprotoNetworkError, OSError):
                    await sock.send(self.broadcaster.send(beacon))
            self.beacon_count += 1
            await asyncio.sleep(period_s)
            period_s = min(2 * period_s, BEACON_LAST_S)


async def serve_channels(pvdb: dict[str, Any], listening: socket.socket, startup_hook: Any) -> None:
    """Serve at the port that was reserved, until SIGTERM or SIGINT."""
    os.environ.update(EPICS_CAS_BEACON_ADDR_LIST=LOOPBACK, EPICS_CAS_AUTO_BEACON_ADDR_LIST="NO")
    caproto.server.common.HIGH_LOAD_TIMEOUT = BATCHING_S
    sys.setswitchinterval(SWITCH_S)
    server = asyncio.ensure_future(LoopbackServer(pvdb, listening).run(startup_hook=startup_hook))
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, server.cancel)
    try:
        await server
    except asyncio.CancelledError:
        return
