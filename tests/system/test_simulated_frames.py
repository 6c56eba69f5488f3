"""A simulated frame is the same in another process."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
from xrdct_beamline.sim.detector import SimulatedDetector, demo_poni
from xrdct_beamline.sim.diffraction import FrameRenderer
from xrdct_beamline.sim.electrode import make_electrode
renderer = FrameRenderer(make_electrode(1, pixel_mm=0.004), SimulatedDetector.from_poni(demo_poni()), seed=2)
frame = renderer.frame(12.0, 0.1, 0.6, 0.01)
digest = hashlib.sha256(frame.tobytes()).hexdigest()
"""


@pytest.mark.system
def test_another_process_renders_the_same_frame():
    here: dict[str, object] = {}
    exec(PROGRAM, here)  # noqa: S102 (the same text runs in both)
    there = subprocess.run(
        [sys.executable, "-c", PROGRAM + "print(digest)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert there.stdout.strip() == here["digest"]
    assert here["digest"] != hashlib.sha256(b"").hexdigest()
