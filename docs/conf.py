"""How the book is built: ``make docs``."""

project = "xrdct-beamline"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
suppress_warnings = [
    "myst.header",  # integration-tables.md is written by the benchmark, table by table
    "misc.highlighting_failure",  # examples leave out with … what does not matter
]
