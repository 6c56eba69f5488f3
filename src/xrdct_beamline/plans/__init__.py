"""Bluesky plans: whole experiments, composed of stubs."""
