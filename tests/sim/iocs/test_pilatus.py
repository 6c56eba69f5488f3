"""Detector and file plugin, driven without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from xrdct_beamline.sim.beamline_state import BeamlineState, FrameState, Monitors
from xrdct_beamline.sim.iocs.hdf5_plugin import Hdf5Plugin
from xrdct_beamline.sim.iocs.line_file import LineFile
from xrdct_beamline.sim.iocs.pilatus import READOUT_S, Pilatus
from xrdct_beamline.sim.iocs.sample import BlankSample

EXPOSURE_S = 0.002
PERIOD_S = (EXPOSURE_S + READOUT_S) * 1.02
assert hdf5plugin.FILTERS  # registered: h5py decodes with it


class Bench:
    def __init__(self, model: BlankSample, executor: ThreadPoolExecutor) -> None:
        self.state = BeamlineState(
            monitors=Monitors(steady=True), transmission=model.transmission, lithium_content=lambda t: 0.5
        )
        self.state.shutter.set(True, 0.0)
        self.plugin = Hdf5Plugin("T:HDF1:", shape=model.shape, executor=executor)
        self.cam = Pilatus(
            "T:cam1:",
            model=model,
            plugin=self.plugin,
            executor=executor,
            state=self.state,
            clock=time.monotonic,
        )

    async def configure(self, folder: Path, n: int, mode: str = "Mult. Trigger") -> None:
        for pair, value in (
            (self.cam.trigger_mode, mode),
            (self.cam.image_mode, "Multiple"),
            (self.cam.num_images, n),
            (self.cam.acquire_time, EXPOSURE_S),
            (self.cam.acquire_period, PERIOD_S),
            (self.plugin.file_path, str(folder)),
            (self.plugin.file_name, "line"),
            (self.plugin.file_write_mode, "Stream"),
            (self.plugin.enable_callbacks, "Enable"),
            (self.plugin.num_capture, n),
        ):
            await pair.setpoint.write(value)

    def start(self) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        capture = asyncio.create_task(self.plugin.capture.setpoint.write("Capture"))
        return capture, asyncio.create_task(self.cam.acquire.setpoint.write("Acquire"))

    async def armed(self) -> None:
        while self.cam.armed.value != "Armed":
            await asyncio.sleep(0.001)

    async def pulses(self, n: int, period_s: float = PERIOD_S) -> None:
        """Send pulses at exact times, late or not."""
        begin_s = time.monotonic()
        for k in range(n):
            await asyncio.sleep(max(begin_s + k * period_s - time.monotonic(), 0))
            self.cam.trigger(begin_s + k * period_s, 0.0)


def run(scenario: Callable[[Bench], Awaitable[None]], model: BlankSample | None = None) -> Bench:
    async def prepared() -> Bench:
        with ThreadPoolExecutor(max_workers=1) as executor:
            bench = Bench(model or BlankSample(), executor)
            await bench.cam.prepare()
            await asyncio.wait_for(scenario(bench), 10)
            await bench.plugin.close()
        return bench

    return asyncio.run(prepared())


def test_line_of_triggered_frames_is_in_a_closed_file(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 6)
        capture, acquire = bench.start()
        await bench.armed()
        assert bench.cam.acquire.readback.value == "Acquire"
        await bench.pulses(6)
        await acquire
        await capture

    bench = run(scenario)
    assert bench.cam.num_images_counter.value == bench.plugin.num_captured.value == 6
    assert bench.cam.acquire.readback.value == bench.plugin.capture.readback.value == "Done"
    assert bench.cam.armed.value == "Unarmed"
    assert bench.plugin.write_status.value == "Write OK"
    with h5py.File(tmp_path / "line_000000.h5") as h5:
        assert h5["/entry/data/data"].shape == (6, 8, 16)
        assert h5["/entry/data/data"][3, 5, 5] == 1000 * EXPOSURE_S
        assert h5["/entry/instrument/NDAttributes/NDArrayUniqueId"][()].tolist() == [1, 2, 3, 4, 5, 6]
        times = h5["/entry/instrument/NDAttributes/NDArrayTimeStamp"][()]
        np.testing.assert_allclose(np.diff(times), PERIOD_S, atol=1e-3)
        assert abs(times[0] - time.time()) < 10


def test_early_pulse_is_lost_and_the_driver_waits_on(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 4)
        capture, acquire = bench.start()
        await bench.armed()
        await bench.pulses(4, period_s=(EXPOSURE_S + READOUT_S) * 0.98)
        while bench.cam._n_read < 2:
            await asyncio.sleep(0.001)
        done, _ = await asyncio.wait([acquire], timeout=0.05)
        assert not done
        await bench.cam.acquire.setpoint.write("Done")
        await acquire
        assert bench.cam.num_images_counter.value == 2  # every other pulse was too early
        assert bench.cam.detector_state.value == "Aborted"
        assert bench.plugin.capture.readback.value == "Capture"
        await bench.plugin.capture.setpoint.write("Done")
        await capture

    bench = run(scenario)
    assert bench.plugin.num_captured.value == 2
    with h5py.File(tmp_path / "line_000000.h5") as h5:
        assert h5["/entry/data/data"].shape[0] == 2


def test_pulses_before_armed_are_lost(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 2)
        bench.state.faults.arm_delay_s = 0.3
        _, acquire = bench.start()
        await asyncio.sleep(0.02)
        assert bench.cam.armed.value == "Unarmed"
        bench.cam.trigger(time.monotonic(), 0.0)
        await bench.armed()
        await bench.pulses(2)
        await acquire

    assert run(scenario).cam.num_images_counter.value == 2


def test_missed_frame_happens_once(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 3)
        bench.state.faults.drop_frame = 1
        _, acquire = bench.start()
        await bench.armed()
        await bench.pulses(3)
        await asyncio.sleep(0.05)
        assert not acquire.done()
        await bench.pulses(1)
        await acquire
        assert bench.state.faults.drop_frame == -1

    run(scenario)


@pytest.mark.parametrize(("mode", "n_pulses"), [("Internal", 0), ("Ext. Trigger", 1)])
def test_series_that_needs_one_start(tmp_path: Path, mode: str, n_pulses: int) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 5, mode)
        begin = time.monotonic()
        capture, acquire = bench.start()
        if n_pulses:
            await bench.armed()
            await bench.pulses(1)
        await acquire
        await capture
        assert time.monotonic() - begin > 4 * PERIOD_S + EXPOSURE_S

    assert run(scenario).plugin.num_captured.value == 5


def test_gate_of_the_pulse_is_the_exposure(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 1, "Ext. Enable")
        capture, acquire = bench.start()
        await bench.armed()
        bench.cam.trigger(time.monotonic(), 0.02)
        await acquire
        await capture

    run(scenario)
    with h5py.File(tmp_path / "line_000000.h5") as h5:
        assert h5["/entry/data/data"][0, 5, 5] == 20


def test_closed_shutter_makes_dark_frames(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.state.shutter.set(False, time.monotonic())
        await bench.configure(tmp_path, 1, "Internal")
        capture, acquire = bench.start()
        await acquire
        await capture

    run(scenario)
    with h5py.File(tmp_path / "line_000000.h5") as h5:
        assert not h5["/entry/data/data"][0, 1:].any()


def test_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path / "nowhere", 1, "Internal")
        assert bench.plugin.file_path_exists.value == "No"
        capture, acquire = bench.start()
        await capture
        await acquire  # the camera knows nothing of it

    bench = run(scenario)
    assert bench.plugin.capture.readback.value == "Done"
    assert bench.plugin.write_status.value == "Write error"
    assert "nowhere" in bench.plugin.write_message.value
    assert bench.plugin.file_number.readback.value == 0
    assert list(tmp_path.iterdir()) == []


def test_disk_error_in_mid_line_ends_the_capture_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LineFile.write

    def fill_up(file: LineFile, frame: np.ndarray, **kwargs: Any) -> None:
        if file.n_written == 2:
            raise OSError(28, "No space left on device")
        write(file, frame, **kwargs)

    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(LineFile, "write", fill_up)
        await bench.configure(tmp_path, 4, "Internal")
        capture, acquire = bench.start()
        await capture
        await acquire

    bench = run(scenario)
    assert bench.plugin.write_status.value == "Write error"
    assert "No space left" in bench.plugin.write_message.value
    assert bench.plugin.num_captured.value == 2
    assert bench.cam.num_images_counter.value == 4
    with h5py.File(tmp_path / "line_000000.h5") as h5:
        assert h5["/entry/data/data"].shape[0] == 2  # what was written is there


def test_folder_is_made_to_the_depth_that_is_allowed(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.plugin.create_directory.setpoint.write(-1)
        await bench.plugin.file_path.setpoint.write(str(tmp_path / "a" / "b"))
        assert bench.plugin.file_path_exists.value == "No"
        await bench.plugin.create_directory.setpoint.write(-2)
        await bench.plugin.file_path.setpoint.write(str(tmp_path / "a" / "b"))
        assert bench.plugin.file_path_exists.value == "Yes"

    run(scenario)
    assert (tmp_path / "a" / "b").is_dir()


def test_full_queue_drops_and_counts(tmp_path: Path) -> None:
    class Slow(BlankSample):
        def frame(self, state: FrameState) -> np.ndarray:
            time.sleep(0.03)
            return super().frame(state)

    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 6, "Internal")
        await bench.plugin.queue_size.setpoint.write(2)
        capture, acquire = bench.start()
        await acquire
        await bench.plugin.capture.setpoint.write("Done")
        await capture

    bench = run(scenario, Slow())
    dropped = bench.plugin.dropped_arrays.readback.value
    assert dropped > 0
    assert bench.plugin.num_captured.value == 6 - dropped


def test_detector_that_hangs_can_be_aborted(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 1, "Internal")
        bench.state.faults.detector_hangs = True
        _, acquire = bench.start()
        done, _ = await asyncio.wait([acquire], timeout=0.05)
        assert not done
        await bench.cam.acquire.setpoint.write("Done")
        await acquire

    assert run(scenario).cam.num_images_counter.value == 0


def test_sample_that_cannot_be_rendered_ends_the_series(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(BlankSample):
        def frame(self, state: FrameState) -> np.ndarray:
            raise ValueError("no such structure")

    async def scenario(bench: Bench) -> None:
        await bench.configure(tmp_path, 3, "Internal")
        _, acquire = bench.start()
        await acquire

    assert run(scenario, Broken()).cam.detector_state.value == "Aborted"
    assert "no such structure" in caplog.text


def test_last_frame_counts_once_its_file_is_closed(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    class Loop:
        def call_soon_threadsafe(self, finish: Callable[[str], None], message: str) -> None:
            with h5py.File(tmp_path / "line.h5") as h5:  # cannot be opened while it is written
                seen.append((plugin._captured, h5["/entry/data/data"].shape[0] == 2))

    plugin = Hdf5Plugin("T:HDF1:", shape=(8, 16), executor=ThreadPoolExecutor(max_workers=1))
    plugin._loop, plugin._planned = Loop(), 2
    plugin._file = LineFile(tmp_path / "line.h5", n_frames=2, shape=(8, 16))
    for number in range(2):
        plugin.write(np.zeros((8, 16), np.int32), unique_id=number, timestamp=0.0)
        assert plugin._captured == number + 1
    assert seen == [(2, True)]
