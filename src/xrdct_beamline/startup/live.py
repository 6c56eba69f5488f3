"""Live processing and replay, as the configuration has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xrdct_beamline.callbacks.slice_processor import ProcessingSettings
from xrdct_beamline.services.live import LiveSettings, run_live
from xrdct_beamline.services.replay import replay

from .configuration import Configuration

__all__ = ["follow", "live_settings", "replay_journal"]


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
        title=configuration.beamline.name,
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
