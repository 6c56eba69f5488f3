"""XRD-CT beamline: acquisition and live processing of working batteries."""
