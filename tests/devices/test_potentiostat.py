from __future__ import annotations

from typing import Any

from fakes import fake
from ophyd import Signal

from xrdct_beamline.devices.potentiostat import Potentiostat
from xrdct_beamline.domain.documents import CELL_KEYS


def test_sample_is_one_call_with_the_gateways_time() -> None:
    cell = fake(Potentiostat, name="cell")
    calls: list[dict[str, Any]] = []
    cell.subscribe(lambda **kwargs: calls.append(cell.read()), run=False)
    cell.voltage.sim_put(4.1)
    cell.current.sim_put(-0.008)
    assert calls == []
    cell.sample_time_s.sim_put(1234.5)
    cell.sample_time_s.sim_put(1234.5)  # sent again after a reconnection
    [reading] = calls
    assert set(reading) == set(CELL_KEYS)
    assert reading["cell_voltage"] == {"value": 4.1, "timestamp": 1234.5}
    assert {item["timestamp"] for item in reading.values()} == {1234.5}


def test_trigger_level_is_the_lines_whichever_wire_it_is_on() -> None:
    level = Signal(name="level", value=0.0)
    cell = fake(Potentiostat, name="cell", trigger_level=level)
    level.put(1)
    assert cell.read()["cell_trigger_level"]["value"] == 1.0
    assert cell.describe()["cell_trigger_level"]["dtype"] == "number"
