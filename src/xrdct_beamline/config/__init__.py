"""Settings that ship with the package: the simulated beamline and its calibration."""
