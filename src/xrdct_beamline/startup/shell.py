"""An IPython session at the beamline, with the names that people know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrdct_beamline.domain.errors import XrdctError
from xrdct_beamline.domain.scan import ScanGeometry

from .configuration import Configuration, load_configuration
from .processes import ChildProcess, confine_to_loopback

if TYPE_CHECKING:
    from .session import Session

__all__ = ["namespace", "run_shell"]

BANNER = """
xrdct-beamline at {name}: {devices}
    RE(slice_())                         one slice as configured
    RE(operando(3, timeout_s=3600))      a slice at each of the next three pauses of the cell
    RE(resume("last"))                   what a slice lacks that was cut short
    RE(bps.mv(rotation, 90))             a motor by hand
Ctrl-C once pauses after the line; then RE.resume(), RE.stop() or RE.abort().
{page}"""


def namespace(session: Session) -> dict[str, Any]:
    """Return what a person finds in the session: RE, plans, devices by name."""
    import bluesky.plan_stubs as bps
    import bluesky.plans as bp
    import bluesky.preprocessors as bpp

    return {
        "RE": session.RE,
        "bp": bp,
        "bps": bps,
        "bpp": bpp,
        "session": session,
        "beamline": session.beamline,
        "slice_": session.slice,
        "operando": session.operando,
        "resume": session.resume,
        "ScanGeometry": ScanGeometry,
        **{device.name: device for device in session.beamline.devices},
    }


def run_shell(config: Path | None, *, live: bool, say: Callable[[str], None]) -> None:
    """Connect, start live processing, and hand over to a person until they leave."""
    confine_to_loopback()  # before anything imports libca
    import IPython

    from .session import Session

    configuration = load_configuration(config)
    with Session(configuration, say) as session:
        child, page = _start_live(configuration, config) if live else (None, "")
        try:
            names = namespace(session)
            banner = BANNER.format(
                name=configuration.beamline.name,
                devices=", ".join(device.name for device in session.beamline.devices),
                page=page,
            )
            say(banner)
            IPython.start_ipython(argv=["--no-banner"], user_ns=names)
        finally:
            if child is not None:
                child.stop()


def _start_live(configuration: Configuration, config: Path | None) -> tuple[ChildProcess | None, str]:
    arguments = ["live", *(["--config", str(config)] if config else [])]
    child = ChildProcess(arguments, log=configuration.paths.data / "live.log")
    try:
        return child, f"The slice grows on {child.wait_for_line('page:', timeout_s=120.0)}"
    except XrdctError as error:  # the scan does not depend on it
        child.stop()
        return None, f"No live processing: {error}"
