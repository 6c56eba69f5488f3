from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes import SHAPE, FakeBeamline

from xrdct_beamline.devices.line_watch import AcquisitionMode, LineRequest
from xrdct_beamline.devices.pilatus import Pilatus
from xrdct_beamline.domain.documents import IMAGE
from xrdct_beamline.domain.errors import LineFailed

REQUEST = LineRequest(
    n_frames=5, exposure_s=0.01, period_s=0.0112, directory="/raw", file_name="abc", file_number=2
)


@pytest.fixture
def hardware() -> FakeBeamline:
    return FakeBeamline()


@pytest.fixture
def detector(hardware: FakeBeamline) -> Pilatus:
    return hardware.beamline.detector


def kick_off(detector: Pilatus, request: LineRequest = REQUEST) -> None:
    detector.prepare(request).wait(1)
    detector.kickoff().wait(1)


def soon(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 1
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.002)


def test_settings_of_a_flown_line(detector: Pilatus) -> None:
    detector.prepare(REQUEST).wait(1)
    cam, file = detector.cam, detector.file
    assert (cam.trigger_mode.get(), cam.num_images.get()) == ("Mult. Trigger", 5)
    assert (cam.exposure_s.get(), cam.period_s.get()) == (0.01, 0.0112)
    assert (file.file_path.get(), file.file_name.get(), file.file_number.get()) == ("/raw/", "abc", 2)
    assert (file.num_capture.get(), file.file_write_mode.get()) == (5, "Stream")
    assert file.compression.get() == "BSLZ4"


def test_line_with_all_frames(hardware: FakeBeamline, detector: Pilatus) -> None:
    kick_off(detector)
    done = detector.complete()
    hardware.deliver(3)
    assert not done.done
    hardware.deliver(5)
    done.wait(1)

    assert detector.outcome is not None
    assert detector.outcome.raw_file == "/raw/abc_02.h5"
    assert (detector.outcome.captured, detector.outcome.dropped) == (5, 0)


def test_file_is_handed_on_once(hardware: FakeBeamline, detector: Pilatus) -> None:
    kick_off(detector)
    hardware.deliver(5)
    detector.complete().wait(1)
    assert detector.get_index() == 5
    (_, resource), (_, datum) = detector.collect_asset_docs()
    assert resource["uri"] == "file://localhost/raw/abc_02.h5"
    assert resource["parameters"]["chunk_shape"] == (1, *SHAPE)
    assert (resource["data_key"], datum["stream_resource"]) == (IMAGE, resource["uid"])
    assert datum["indices"] == {"start": 0, "stop": 5}
    assert list(detector.collect_asset_docs()) == []
    assert detector.describe_collect()[IMAGE]["shape"] == list(SHAPE)


def test_line_that_stalls_is_closed_and_fails(hardware: FakeBeamline, detector: Pilatus) -> None:
    kick_off(detector)
    done = detector.complete()
    hardware.deliver(4)
    with pytest.raises(LineFailed, match=r"4 of 5 frames: no frame came for 0\.\d+ s; the line can be"):
        done.wait(1)
    assert (detector.cam.acquiring.get(), detector.file.capturing.get()) == (0, 0)
    assert detector.outcome is not None
    assert detector.outcome.captured == 4
    [_, (_, datum)] = detector.collect_asset_docs()
    assert datum["indices"]["stop"] == 4


def test_line_without_a_frame_has_no_file(detector: Pilatus) -> None:
    kick_off(detector)
    done = detector.complete()
    detector.stop()
    with pytest.raises(LineFailed, match="0 of 5 frames: it was interrupted"):
        done.wait(1)
    assert detector.outcome is not None
    assert detector.outcome.raw_file == ""
    assert list(detector.collect_asset_docs()) == []


def test_server_that_dies_while_the_line_is_read_back_fails_the_line(
    hardware: FakeBeamline, detector: Pilatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libca raises then is no TimeoutError; the plan must not wait for ever."""

    class GetFailure(Exception):
        pass

    def fail(*args: object, **kwargs: object) -> None:
        raise GetFailure("status code 192")

    kick_off(detector)
    done = detector.complete()
    monkeypatch.setattr(detector.file.num_captured, "get", fail)
    hardware.deliver(5)
    with pytest.raises(LineFailed, match="GetFailure: status code 192"):
        done.wait(5)


def test_complaint_of_the_file_writer_fails_the_line(hardware: FakeBeamline, detector: Pilatus) -> None:
    kick_off(detector)
    detector.file.write_status.sim_put(1)
    detector.file.write_message.sim_put("disk full")
    hardware.deliver(5)
    with pytest.raises(LineFailed, match="'disk full'"):
        detector.complete().wait(1)


def test_dropped_frames_fail_the_line(hardware: FakeBeamline, detector: Pilatus) -> None:
    detector.file.dropped_arrays.sim_put(7)  # of earlier lines
    kick_off(detector)
    detector.file.dropped_arrays.sim_put(9)
    hardware.deliver(5)
    with pytest.raises(LineFailed, match="2 frames were dropped"):
        detector.complete().wait(1)


def test_detector_that_does_not_arm(hardware: FakeBeamline, detector: Pilatus) -> None:
    detector.cam.acquire.sim_set_putter(lambda value, **kwargs: None)
    detector.limits = replace(detector.limits, arm_s=0.05, close_s=0.05)
    detector.prepare(REQUEST).wait(1)
    with pytest.raises(LineFailed, match=r"not armed 0.05 s after the kickoff"):
        detector.kickoff().wait(1)


def test_second_kickoff_is_refused_while_a_line_is_in_flight(detector: Pilatus) -> None:
    kick_off(detector)
    with pytest.raises(LineFailed, match="cannot kickoff: a line of 5 frames is in flight"):
        detector.kickoff()
    with pytest.raises(LineFailed, match="cannot prepare"):
        detector.prepare(REQUEST)
    detector.set("idle").wait(1)
    kick_off(detector)
    detector.set("idle").wait(1)


def test_foreign_acquisition_is_not_taken_over(detector: Pilatus) -> None:
    detector.prepare(REQUEST).wait(1)
    detector.cam.acquiring.sim_put(1)
    with pytest.raises(LineFailed, match="for somebody else"):
        detector.kickoff()


@pytest.mark.parametrize("verb", ["kickoff", "complete", "trigger"])
def test_verbs_out_of_order_are_refused(detector: Pilatus, verb: str) -> None:
    with pytest.raises(LineFailed):
        getattr(detector, verb)()


def test_paused_line_fails_only_when_the_engine_goes_on(hardware: FakeBeamline, detector: Pilatus) -> None:
    kick_off(detector)
    done = detector.complete()
    hardware.deliver(2)
    detector.pause()
    soon(lambda: detector.outcome is not None)
    assert (detector.cam.acquiring.get(), detector.file.capturing.get()) == (0, 0)
    assert not done.done
    detector.resume()
    with pytest.raises(LineFailed, match="it was interrupted"):
        done.wait(1)
    assert detector.interruptions == 1


def test_lost_connection_fails_the_line(detector: Pilatus) -> None:
    detector.limits = replace(detector.limits, close_s=0.05)
    kick_off(detector)
    done = detector.complete()
    detector.file.capturing._run_subs(sub_type="meta", connected=False)
    with pytest.raises(LineFailed, match="its server went away"):
        done.wait(1)


def test_step_mode_takes_a_frame_per_trigger(detector: Pilatus) -> None:
    kick_off(detector, replace(REQUEST, mode=AcquisitionMode.STEP, n_frames=2))
    assert detector.cam.trigger_mode.get() == "Internal"
    assert detector.cam.num_images.get() == 1
    detector.trigger().wait(1)
    assert detector.file.num_captured.get() == 1
    detector.trigger().wait(1)
    detector.complete().wait(1)


def test_unstage_stops(detector: Pilatus) -> None:
    kick_off(detector)
    done = detector.complete()
    detector.unstage()
    assert done.exception(timeout=1) is not None
    assert detector.cam.acquiring.get() == 0
