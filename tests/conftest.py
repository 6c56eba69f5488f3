"""What every test shares: EPICS confined to loopback, and the reference data."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


#: Held, so that no client is given this port: libca sends registrations there, which others cannot read.
_REPEATER = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
_REPEATER.bind(("127.0.0.1", 0))


# libca reads these at its first import, so they are set before any test module is imported.
os.environ.update(
    EPICS_CA_ADDR_LIST="127.0.0.1",
    EPICS_CA_AUTO_ADDR_LIST="NO",
    EPICS_CAS_INTF_ADDR_LIST="127.0.0.1",
    EPICS_CAS_BEACON_ADDR_LIST="127.0.0.1",
    EPICS_CAS_AUTO_BEACON_ADDR_LIST="NO",
    EPICS_CA_SERVER_PORT=str(_free_port()),
    EPICS_CA_REPEATER_PORT=str(_REPEATER.getsockname()[1]),
    EPICS_CA_MAX_ARRAY_BYTES="20000000",
    OPHYD_CONTROL_LAYER=os.environ.get("OPHYD_CONTROL_LAYER", "pyepics"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that start processes together: side by side with each other they would time out."""
    for item in items:
        if item.get_closest_marker("system"):
            item.add_marker(pytest.mark.xdist_group("system"))


# A busy machine is slow, not wrong: speed lives in the benchmarks.
settings.register_profile("xrdct", deadline=None, max_examples=50)
settings.load_profile("xrdct")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real and reference data that lie beside the checkout, not in it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data are not at {folder}")
    return folder
