"""Position compare, shutter, beam, potentiostat, line record, beamline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeBeamline

from xrdct_beamline.devices.beam import ShutterState
from xrdct_beamline.devices.beamline import BeamlineSettings
from xrdct_beamline.devices.connection import not_connected
from xrdct_beamline.devices.line_record import LineRecord, LineValues
from xrdct_beamline.devices.position_compare import CompareLine
from xrdct_beamline.domain.documents import CELL_KEYS, LINE_KEYS
from xrdct_beamline.domain.errors import ConfigurationError, LineFailed

LINE = CompareLine(start_mm=-0.1, step_mm=0.01, pulses=5, gate_s=0.01)


@pytest.fixture
def hardware() -> FakeBeamline:
    return FakeBeamline()


def test_compare_is_enabled_after_the_capture_is_armed(hardware: FakeBeamline) -> None:
    compare, order = hardware.beamline.compare, []
    compare.capturing.subscribe(lambda *, value, **kwargs: order.append(("capture", value)), run=False)
    compare.active.subscribe(lambda *, value, **kwargs: order.append(("compare", value)), run=False)
    compare.prepare(LINE).wait(1)
    compare.set(True).wait(1)
    assert order[-2:] == [("capture", 1), ("compare", 1)]
    assert (compare.start_mm.get(), compare.step_mm.get(), compare.pulses.get()) == (-0.1, 0.01, 5)
    assert compare.width_s.get() == 0.01


def test_compare_reads_as_much_as_was_captured(hardware: FakeBeamline) -> None:
    compare, asked = hardware.beamline.compare, []
    compare.num_captured.sim_put(3)

    def get(*, count: int, **kwargs: Any) -> np.ndarray:
        asked.append(count)
        return np.arange(4096.0)[:count]

    compare.position_mm.get = compare.i0.get = compare.i1.get = get
    reading = compare.read()
    assert asked == [3, 3, 3]
    assert list(reading["compare_position_mm"]["value"]) == [0.0, 1.0, 2.0]
    assert set(reading) == {"compare_produced", "compare_position_mm", "compare_i0", "compare_i1"}


@pytest.mark.parametrize("pulses", [0, 4097])
def test_compare_refuses_a_line_that_it_cannot_capture(hardware: FakeBeamline, pulses: int) -> None:
    line = CompareLine(start_mm=0, step_mm=0.01, pulses=pulses, gate_s=0.01)
    with pytest.raises(LineFailed, match=f"{pulses} pulses: it captures at most 4096"):
        hardware.beamline.compare.prepare(line)


@pytest.mark.parametrize("verb", ["stop", "pause", "unstage"])
def test_compare_disarms(hardware: FakeBeamline, verb: str) -> None:
    compare = hardware.beamline.compare
    compare.prepare(LINE).wait(1)
    compare.set(True).wait(1)
    getattr(compare, verb)()
    assert (compare.active.get(), compare.capturing.get()) == (0, 0)


@pytest.mark.parametrize("verb", ["stop", "unstage"])
def test_shutter_closes(hardware: FakeBeamline, verb: str) -> None:
    shutter = hardware.beamline.shutter
    shutter.set(ShutterState.OPEN).wait(1)
    assert shutter.state.get() == 1
    getattr(shutter, verb)()
    assert shutter.state.get() == 0


def test_cell_is_told_once_per_sample(hardware: FakeBeamline) -> None:
    cell, samples = hardware.beamline.cell, []
    cell.subscribe(lambda **kwargs: samples.append(cell.read()), run=False)
    for time_s, voltage in ((100.0, 4.1), (101.0, 4.0), (101.0, 4.0)):
        cell.voltage.sim_put(voltage)
        cell.current.sim_put(-0.008)
        cell.sample_time_s.sim_put(time_s)
    assert [s["cell_voltage"]["value"] for s in samples] == [4.1, 4.0]
    assert [s["cell_current"]["timestamp"] for s in samples] == [100.0, 101.0]
    assert set(samples[0]) == set(CELL_KEYS) == set(cell.describe())


def test_line_record_has_the_documented_keys() -> None:
    record = LineRecord(name="line")
    record.set(LineValues.empty(7)).wait(1)
    assert tuple(record.read()) == LINE_KEYS
    described = record.describe()
    assert tuple(described) == LINE_KEYS
    arrays = {key: value for key, value in described.items() if value["dtype"] == "array"}
    assert set(arrays) == {"line_position_mm", "line_i0", "line_i1"}
    assert {(tuple(v["shape"]), v["dtype_numpy"]) for v in arrays.values()} == {((7,), "<f8")}
    assert described["line_position_mm"]["units"] == "mm"
    assert described["line_verdict"]["dtype"] == "string"
    assert described["line_attempt"]["dtype"] == "integer"


def test_beamline_lists_its_devices(hardware: FakeBeamline) -> None:
    beamline = hardware.beamline
    assert len(beamline.devices) == 10
    assert set(beamline.needed_for_lines) | set(beamline.baseline) <= set(beamline.devices)
    assert beamline.cell not in beamline.needed_for_lines


@pytest.mark.parametrize("name", ["rotation_sign", "translation_sign"])
def test_sign_is_a_sign(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is 0"):
        BeamlineSettings(**{name: 0})


def test_missing_variables_are_named() -> None:
    message = str(not_connected(["B:two", "A:one"], 5.0))
    assert message.startswith("2 process variables did not answer within 5 s: A:one, B:two;")
    assert str(not_connected(["A:one"], 5.0)).startswith("1 process variable did")
