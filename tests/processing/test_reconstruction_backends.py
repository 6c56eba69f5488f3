import sys
import types

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError, ProcessingError
from xrdct_beamline.processing._centring import centred, cropped
from xrdct_beamline.processing.backends import BACKENDS
from xrdct_beamline.processing.reconstruction import reconstruct

ANGLES = np.arange(40) * 4.5
BLOBS = [(6.0, 3.0, 2.5, 1.0), (-5.0, 8.0, 2.0, 0.5)]


def blob_sinogram(axis_px, n=40):
    t = np.arange(n) - axis_px
    theta = np.radians(ANGLES)[:, None]
    return sum(
        a * np.sqrt(2 * np.pi) * s * np.exp(-((t - x * np.cos(theta) - y * np.sin(theta)) ** 2) / (2 * s * s))
        for x, y, s, a in BLOBS
    )


def recording_tomopy(gain, offset):
    """A stand-in with TomoPy's call and orientation, and the relative scale of its gridrec."""
    module = types.ModuleType("tomopy")
    module.calls = []

    def recon(tomo, theta, center=None, sinogram_order=False, algorithm=None, init_recon=None, **options):
        module.calls.append((tomo.shape, center, sinogram_order, algorithm, options))
        image = reconstruct(tomo.transpose(0, 2, 1), np.degrees(theta), center)
        return gain * np.moveaxis(image, -1, 0) + offset

    module.recon = recon
    return module


def test_tomopy_is_called_by_its_contract_and_brought_to_absolute_scale(monkeypatch):
    module = recording_tomopy(1.12, 0.03)
    monkeypatch.setitem(sys.modules, "tomopy", module)
    sinogram = blob_sinogram(21.3)[:, :, None] * np.array([1.0, 3.0])
    image = reconstruct(sinogram, ANGLES, 21.3, method="gridrec", backend="tomopy")
    np.testing.assert_allclose(image, reconstruct(sinogram, ANGLES, 21.3), atol=0.02)
    (shape, center, sinogram_order, algorithm, options) = module.calls[0]
    assert shape[:2] == (40, 2)
    assert center == (shape[2] - 1) / 2
    assert not sinogram_order
    assert (algorithm, options) == ("gridrec", {"filter_name": "ramlak"})


def test_an_iterative_method_of_tomopy_keeps_its_own_scale(monkeypatch):
    module = recording_tomopy(1.12, 0.03)
    monkeypatch.setitem(sys.modules, "tomopy", module)
    image = reconstruct(blob_sinogram(20.0), ANGLES, 20.0, method="sirt", backend="tomopy", iterations=7)
    native = reconstruct(blob_sinogram(20.0), ANGLES, 20.0)
    np.testing.assert_allclose(image, 1.12 * native + 0.03, atol=1e-4)
    assert module.calls[0][4] == {"num_iter": 7}


def test_recorded_gridrec_has_the_native_orientation(shared_data):
    reference = np.load(shared_data / "tomopy_reference" / "gridrec_blobs.npz")
    native = reconstruct(
        reference["sinogram"], np.degrees(reference["angle_rad"]), float(reference["axis_px"])
    )
    row, column = np.mgrid[:128, :128] - 63.5
    inside = np.hypot(row, column) < 60
    slope, offset = np.polyfit(reference["gridrec"][inside], native[inside], 1)
    residual = native[inside] - (slope * reference["gridrec"][inside] + offset)
    assert residual.std() < 0.015 * native.max()


@pytest.mark.parametrize("axis_px", [17.0, 19.5, 24.7])
def test_centring_keeps_every_pixel_where_it_was(axis_px):
    sinogram = blob_sinogram(axis_px)[:, :, None]
    wide, first = centred(sinogram, ANGLES, axis_px)
    image = cropped(reconstruct(wide, ANGLES, (wide.shape[1] - 1) / 2), first, 40)
    np.testing.assert_allclose(image, reconstruct(sinogram, ANGLES, axis_px), atol=0.02)


def test_the_axis_must_lie_within_the_field():
    with pytest.raises(ProcessingError, match="outside of the field of 40 translations"):
        centred(np.zeros((2, 40, 1)), np.array([0.0, 90.0]), 40.0)


@pytest.mark.parametrize(
    ("backend", "words"), [("tomopy", "environment.yml"), ("astra", r"xrdct-beamline\[astra\]")]
)
def test_an_absent_backend_says_how_to_get_it(monkeypatch, backend, words):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(ConfigurationError, match=words):
        reconstruct(blob_sinogram(20.0), ANGLES, 20.0, method=BACKENDS[backend].methods[0], backend=backend)


def test_unknown_backends_and_methods_are_refused():
    with pytest.raises(ConfigurationError, match="'gpu' is unknown; use one of native, tomopy, astra"):
        reconstruct(blob_sinogram(20.0), ANGLES, 20.0, backend="gpu")
    with pytest.raises(ConfigurationError, match="native backend has no method 'sirt'; it has fbp"):
        reconstruct(blob_sinogram(20.0), ANGLES, 20.0, method="sirt")


@pytest.mark.parametrize(("method", "tolerance"), [("fbp", 0.05), ("sirt", 0.06), ("cgls", 0.06)])
@pytest.mark.parametrize("axis_px", [19.5, 21.3])
def test_astra_agrees_with_the_native_reconstruction(method, tolerance, axis_px):
    pytest.importorskip("astra")
    sinogram = blob_sinogram(axis_px)[:, :, None] * np.array([1.0, 2.0])
    image = reconstruct(sinogram, ANGLES, axis_px, method=method, backend="astra", iterations=200)
    native = reconstruct(sinogram, ANGLES, axis_px)
    row, column = np.mgrid[:40, :40] - axis_px
    inside = np.hypot(row, column) < 17
    np.testing.assert_allclose(image[inside], native[inside], atol=tolerance * native.max())


@pytest.mark.parametrize(("method", "tolerance"), [("gridrec", 0.02), ("sirt", 0.06)])
def test_tomopy_agrees_with_the_native_reconstruction(method, tolerance):
    pytest.importorskip("tomopy")
    sinogram = blob_sinogram(21.3)
    image = reconstruct(sinogram, ANGLES, 21.3, method=method, backend="tomopy", iterations=200)
    native = reconstruct(sinogram, ANGLES, 21.3)
    row, column = np.mgrid[:40, :40] - 21.3
    inside = np.hypot(row, column) < 15
    np.testing.assert_allclose(image[inside], native[inside], atol=tolerance * native.max())
