"""Live processing and replay, as the configuration has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.callbacks.slice_processor import ProcessingSettings
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase, shipped_names
from xrdct_beamline.services.live import LiveSettings, run_live
from xrdct_beamline.services.replay import replay

from .configuration import Configuration

__all__ = ["follow", "live_settings", "map_settings", "replay_journal"]


def live_settings(configuration: Configuration) -> LiveSettings:
    """Return what live processing does with the frames of this beamline."""
    chosen = configuration.processing
    return LiveSettings(
        processing=ProcessingSettings(
            bins=chosen.bins,
            unit=chosen.unit,
            estimator=chosen.estimator,
            lower=chosen.lower,
            upper=chosen.upper,
            axis_mm=chosen.axis_mm,
        ),
        maps=map_settings(configuration),
        alerts=configuration.alerts,
        title=configuration.beamline.name,
    )


def map_settings(configuration: Configuration) -> MapSettings | None:
    """Return what is refined; None if nothing is.

    Raises
    ------
    ConfigurationError
        If a phase is neither shipped nor a CIF that can be read, or the instrument file cannot.
    """
    chosen = configuration.refinement
    if not chosen.phases or chosen.instrument is None:
        return None
    names, base = shipped_names(), Path(configuration.source).absolute().parent
    phases = tuple(
        Phase.shipped(name) if name in names else Phase.from_cif(base / name) for name in chosen.phases
    )
    instrument = Instrument.load(chosen.instrument)
    return MapSettings(
        phases=phases,
        instrument=instrument,
        radial_range=chosen.radial_range,
        background=chosen.background,
        limits_A=chosen.limits_A,
        window_A=chosen.window_A,
    )


def follow(
    configuration: Configuration,
    *,
    journal: Path | None = None,
    output: Path | None = None,
    page_port: int | None = None,
    on_ready: Callable[[str | None], None] | None = None,
    on_slice: Callable[[Path], None] | None = None,
) -> None:
    """Follow a journal until interrupted; ``page_port`` None shows no page."""
    run_live(
        journal or configuration.paths.journal,
        output or configuration.paths.processed,
        settings=live_settings(configuration),
        page_port=page_port,
        on_ready=on_ready,
        on_slice=on_slice,
    )


def replay_journal(configuration: Configuration, journal: Path, output: Path) -> list[Path]:
    """Process the runs of a journal again; return the processed files."""
    return replay(journal, output, settings=live_settings(configuration), search=(configuration.paths.raw,))
