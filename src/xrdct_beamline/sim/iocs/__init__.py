"""Simulated IOCs, one file per device."""
