"""The simulated experiment, from one command."""
