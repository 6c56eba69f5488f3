"""The command line: ``xrdct``."""
