"""A simulated beamline: sample, physics, and the IOCs that serve it."""
