"""The list of process variables: names and types of the hardware contract."""

from __future__ import annotations

import pytest

from xrdct_beamline.sim.iocs.server import SimOptions, build_pvdb, list_pvs


@pytest.fixture(scope="module")
def types() -> dict[str, str]:
    return {name: kind for name, kind, _ in list_pvs(SimOptions(prefix="T:"))}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m1", "DOUBLE"),
        ("m2.RBV", "DOUBLE"),
        ("m3.DMOV", "INT"),
        ("PIL:cam1:Acquire", "ENUM"),
        ("PIL:cam1:TriggerMode_RBV", "ENUM"),
        ("PIL:cam1:AcquireTime", "DOUBLE"),
        ("PIL:cam1:NumImagesCounter_RBV", "LONG"),
        ("PIL:cam1:Model_RBV", "STRING"),
        ("PIL:cam1:StatusMessage_RBV", "CHAR"),
        ("PIL:HDF1:FilePath", "CHAR"),
        ("PIL:HDF1:FullFileName_RBV", "CHAR"),
        ("PIL:HDF1:WriteStatus", "ENUM"),
        ("PIL:HDF1:EnableCallbacks_RBV", "ENUM"),
        ("PANDA:PCOMP1:ENABLE", "ENUM"),
        ("PANDA:PCAP:POSITION", "DOUBLE"),
        ("SHUTTER:OPEN_RBV", "ENUM"),
        ("TRIG:DONE", "ENUM"),
        ("CELL:Step_RBV", "STRING"),
        ("CELL:SampleTime_RBV", "DOUBLE"),
        ("SIM:DropFrame", "LONG"),
    ],
)
def test_type(types: dict[str, str], name: str, kind: str) -> None:
    assert types[f"T:{name}"] == kind


def test_every_variable_says_what_it_is() -> None:
    listed = list_pvs(SimOptions(prefix="T:"))
    assert [name for name, _, doc in listed if not doc] == []
    assert len({name for name, _, _ in listed}) == len(listed)


def test_enum_strings_are_the_templates() -> None:
    pvdb = build_pvdb(SimOptions(prefix="T:"))
    assert pvdb["T:PIL:cam1:TriggerMode"].enum_strings == (
        "Internal",
        "Ext. Enable",
        "Ext. Trigger",
        "Mult. Trigger",
        "Alignment",
    )
    assert pvdb["T:PANDA:PCOMP1:ENABLE"].enum_strings == ("ZERO", "ONE")
    assert pvdb["T:PIL:HDF1:FileWriteMode"].enum_strings == ("Single", "Capture", "Stream")


def test_waveforms_have_room_for_a_long_line() -> None:
    pvdb = build_pvdb(SimOptions(prefix="T:"))
    assert {pvdb[f"T:PANDA:PCAP:{n}"].max_length for n in ("POSITION", "I0", "I1", "TIMESTAMP")} == {4096}
