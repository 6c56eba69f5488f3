from __future__ import annotations

import random
import shutil

import pytest
from mutated_files import FILES, mutate, originals, trial

import xrdct_beamline  # noqa: F401  the whole files lie in it


@pytest.mark.slow
@pytest.mark.system
def test_damaged_files_of_every_kind_are_read_or_refused_by_name(tmp_path):
    tally = trial(tmp_path, 160, seed=7)
    assert tally.bad == []
    for kind in set(FILES) - {"journal"}:  # whose damaged lines are passed over
        assert tally.ends[kind, "refused"] > 0, kind
    assert sum(n for (_, end), n in tally.ends.items() if end == "read") > 20


def test_mutations_change_a_file_and_come_again_from_their_seed(tmp_path):
    whole = originals(tmp_path)
    for kind in ("maps", "cif"):
        made = []
        for name in ("first", "again"):
            copy = tmp_path / f"{kind}-{name}"
            shutil.copy(whole[kind], copy)
            how = mutate(copy, random.Random(3))
            made.append((how, copy.stat().st_size))
            assert copy.read_bytes() != whole[kind].read_bytes()
        assert made[0] == made[1]
