"""Build devices, RunEngine and subscribers from one configuration file."""
