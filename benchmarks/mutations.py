"""Mutated files through every reader: ``python benchmarks/mutations.py [--n 1000] [--seed 1]``.

Prints what came of them by kind, and exits with 1 if one crashed or hung a reader, was changed by it,
or gave an error that is not ours or does not name the file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mutated_files import FILES, trial

import xrdct_beamline  # noqa: F401  the whole files lie in it


def main() -> int:
    """Run the trial and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder in which the bad ones are left")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tally = trial(folder, options.n, options.seed)
    ends = sorted({end for _, end in tally.ends})
    print(f"{options.n} files, seed {options.seed}")
    for kind in FILES:
        print(f"{kind:12s}", *(f"{tally.ends[kind, end]:5d} {end}" for end in ends))
    print(*tally.bad, sep="\n")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
