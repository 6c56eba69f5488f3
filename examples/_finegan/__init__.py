"""Parts of `finegan2020.py`."""
