"""Damaged copies of each kind of file, read in a process of its own: a crash must be seen, not suffered.

Run as a script it is that process: it reads ``KIND PATH`` per line and answers what came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import selectors
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

FIXTURE = Path(__file__).parent / "data" / "first_version.zip"
HANG_S = 30.0
#: Of address space; a length that damage made huge must be refused, not allocated.
MEMORY_BYTES = 8 << 30

FILES = {
    "raw": "line_0.h5",
    "master": "master.nxs",
    "processed": "processed.nxs",
    "maps": "maps.nxs",
    "journal": "journal.jsonl",
    "poni": "demo.poni",
    "cif": "LiMn2O4.cif",
    "instrument": "demo-instrument.toml",
}


@dataclass
class Tally:
    """What came of the mutated files: counts by kind and end, and the bad ones."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)


def originals(folder: Path) -> dict[str, Path]:
    """Lay one whole file of each kind into a folder."""
    package = Path(sys.modules["xrdct_beamline"].__file__ or "").parent
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(folder)
    shutil.copy(package / "config" / "demo.poni", folder)
    shutil.copy(package / "config" / "demo-instrument.toml", folder)
    shutil.copy(package / "structures" / "LiMn2O4.cif", folder)
    return {kind: folder / name for kind, name in FILES.items()}


def mutate(path: Path, rng: random.Random) -> str:
    """Damage a file in place; return how."""
    ways = [truncated, flipped, zeroed, repeated]
    ways += [restructured] * 4 if h5py.is_hdf5(path) else [reworded] * 4
    way = rng.choice(ways)
    way(path, rng)
    return way.__name__


def truncated(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 4, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def zeroed(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    first, length = rng.randrange(len(data)), rng.choice((8, 64, 512))
    data[first : first + length] = bytes(len(data[first : first + length]))
    path.write_bytes(data)


def repeated(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    first, length = rng.randrange(len(data)), rng.choice((1, 16, 256))
    path.write_bytes(data[: first + length] + data[first:])


def reworded(path: Path, rng: random.Random) -> None:
    """Put something else in the place of a number or a word of a text."""
    text = path.read_text()
    found = rng.choice(list(re.finditer(r"-?\d+(\.\d+)?(e-?\d+)?|\w+", text)))
    other = rng.choice(["nan", "-1", "0", "1e999", "1e9", "null", "[]", "{}", '"x"', "", "?", "\x00", "é"])
    path.write_text(text[: found.start()] + other + text[found.end() :])


def restructured(path: Path, rng: random.Random) -> None:
    """Take a dataset out, or give it another shape, type or values."""
    names: list[str] = []
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = rng.choice(names)
        shape = file[name].shape
        values = [
            None, "text", np.full(shape, np.nan), np.full((*shape, 2), -1.0), np.zeros(0), -(2**40),
            np.full(shape, 255, np.uint8), np.array(["a", "b"], dtype="S1"), np.full(shape[:-1], 1e300),
            np.zeros(shape, dtype=[("x", "i4")]), np.full((3, 3, 3), 7, np.int64),
        ]  # fmt: skip
        value = rng.choice(values)
        del file[name]
        if value is not None:
            file[name] = value


class Reader:
    """The process that reads; made anew when it is gone."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, kind: str, path: Path) -> str:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, bufsize=1,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            answered = bool(selector.select(HANG_S))
        answer = self.process.stdout.readline() if answered else ""
        if answer.endswith("\n"):
            return answer.strip()
        code = "hang" if not answered else f"crash {self.process.poll()}"
        self.close()
        return code

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
            self.process = None


def trial(folder: Path, n: int, seed: int) -> Tally:
    """Read ``n`` mutated files of all kinds in turn."""
    tally, rng, read = Tally(), random.Random(seed), Reader()
    whole = originals(folder)
    try:
        for number in range(n):
            kind = list(FILES)[number % len(FILES)]
            path = folder / f"mutated_{number}_{whole[kind].name}"
            shutil.copy(whole[kind], path)
            how = mutate(path, rng)
            before = hashlib.sha256(path.read_bytes()).digest(), sorted(os.listdir(folder))
            answer = read(kind, path)
            end = answer.split(" ")[0]
            if (hashlib.sha256(path.read_bytes()).digest(), sorted(os.listdir(folder))) != before:
                end = "overwritten"
            tally.ends[kind, end] += 1
            if end not in ("read", "refused"):
                tally.bad.append(f"{number} {kind} {how}: {answer}")
            else:
                path.unlink()
    finally:
        read.close()
    return tally


def readers() -> dict[str, Callable[[Path], None]]:
    """Return what reads each kind, and checks that what it gave fits together."""
    from xrdct_beamline.domain.detector import DetectorGeometry
    from xrdct_beamline.domain.instrument import Instrument
    from xrdct_beamline.domain.phases import Phase
    from xrdct_beamline.storage import nexus_reader
    from xrdct_beamline.storage.journal import read_journal
    from xrdct_beamline.storage.maps import read_maps
    from xrdct_beamline.storage.master import read_master
    from xrdct_beamline.storage.raw import Hdf5Frames

    def raw(path: Path) -> None:
        assert len({frame.shape for frame in Hdf5Frames().frames(str(path)) if frame is not None}) <= 1
        for deferred in Hdf5Frames().deferred(str(path)):
            deferred()

    def master(path: Path) -> None:
        record = read_master(path)
        n = record.geometry.shape[1]
        assert all(line.i0.shape == line.i1.shape == line.position_mm.shape == (n,) for line in record.lines)
        assert all(a.dtype.kind in "iuf" for line in record.lines for a in (line.i0, line.position_mm))

    def processed(path: Path) -> None:
        found = nexus_reader.read_processed(path)
        n, n_bins = found.intensity.shape[0], found.radial.size
        assert found.intensity.shape == found.sigma.shape == (n, n, n_bins)
        assert found.sinogram.ndim == 3
        assert found.sinogram.shape[2] == n_bins
        assert found.intensity.dtype.kind == found.sinogram.dtype.kind == found.radial.dtype.kind == "f"
        rays = nexus_reader.read_rays(path)
        assert rays.sigma.shape == found.sinogram.shape
        assert rays.rotation_deg.shape == found.sinogram.shape[:1]
        nexus_reader.read_summary(path)
        nexus_reader.read_settings(path)

    def maps(path: Path) -> None:
        found = read_maps(path)
        shape = found.status.shape
        assert found.names
        assert found.rwp.shape == found.width.shape == found.background.shape[:-1] == shape
        assert all(a.shape == (*shape, 6) for a in found.cell.values())
        assert all(a.shape == shape for a in (*found.scale.values(), *found.mass_fraction.values()))

    def cif(path: Path) -> None:
        assert Phase.from_cif(path).reflections(0.25, 10.0) is not None

    return {
        "raw": raw,
        "master": master,
        "processed": processed,
        "maps": maps,
        "journal": lambda path: all(read_journal(path)) and None,
        "poni": lambda path: DetectorGeometry.from_poni(path).radial("2th_deg") is None,
        "cif": cif,
        "instrument": lambda path: Instrument.load(path) is None,
    }


def answers(lines: Iterator[str]) -> Iterator[str]:
    from xrdct_beamline.domain.errors import XrdctError

    read = readers()
    for line in lines:
        kind, path = json.loads(line)
        try:
            read[kind](Path(path))
            yield "read"
        except XrdctError as error:
            named = Path(path).name in str(error)
            yield ("refused " if named else "unnamed ") + " ".join(str(error).split())
        except AssertionError as error:
            frame = error.__traceback__.tb_next if error.__traceback__ else None
            yield f"inconsistent line {frame.tb_lineno if frame else 0}"
        except BaseException as error:
            yield f"foreign {type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for text in answers(sys.stdin):
        sys.stdout.write(text[:500] + "\n")
        sys.stdout.flush()
