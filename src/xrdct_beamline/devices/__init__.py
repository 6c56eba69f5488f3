"""Ophyd devices: what a scan needs of the hardware."""
