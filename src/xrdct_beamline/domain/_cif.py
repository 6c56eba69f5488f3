"""CIFs as people have them: symmetry, cell and sites, and a sentence for all that had to be assumed."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import gemmi
import numpy as np
import numpy.typing as npt

from ._symmetry import Cell, Symmetry, candidates, metric, read_cell
from .errors import PhaseError

__all__ = ["ASSUMED_B_A2", "Crystal", "Site", "pick_block", "read_crystal"]

FloatArray = npt.NDArray[np.float64]

#: Displacement B of a site whose CIF gives none, Å²: between Al2O3 (0.3) and rock salt (1).
ASSUMED_B_A2 = 0.5

#: Images of a site nearer than this are one atom on a special position, Å: more than 0.33 for 1/3 costs,
#: less than the parts of a split site keep.
_SAME_ATOM_A = 0.1

_TO_U = 1.0 / (8.0 * math.pi**2)
_COORDINATES = tuple(f"_atom_site_fract_{x}" for x in "xyz")
_SITE_TAGS = (
    "label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy", "U_iso_or_equiv", "B_iso_or_equiv",
    "calc_flag", "symmetry_multiplicity", "site_symmetry_multiplicity",
)  # fmt: skip
_PAIRS = ("11", "22", "33", "12", "13", "23")


@dataclass(frozen=True)
class Site:
    """An atom of the asymmetric unit and its images in the cell, ``positions`` of shape ``(image, 3)``."""

    label: str
    element: str
    occupancy: float
    u_iso_A2: float
    positions: FloatArray


@dataclass(frozen=True)
class Crystal:
    """What a CIF says, and what was assumed where it says nothing."""

    name: str
    cell: Cell
    symmetry: Symmetry
    sites: tuple[Site, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    """A row of the atom site loop."""

    label: str
    element: str
    occupancy: float
    u_iso_A2: float
    position: tuple[float, float, float]
    multiplicity: int | None


def pick_block(text: str, origin: str, block: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Return the text of the one structure meant, and what was assumed in choosing it."""
    blocks = _document(text, origin)
    if block is not None:
        chosen = [b for b in blocks if b.name == block]
        if not chosen:
            names = ", ".join(b.name for b in blocks)
            raise PhaseError(f"{origin} has no block {block!r}; it has {names}")
        return chosen[0].as_string(), ()
    if len(blocks) == 1:
        return text, ()
    having = [b for b in blocks if len(b.find_values(_COORDINATES[0]))]
    if not having:
        return text, ()
    names = ", ".join(b.name for b in having)
    told = () if len(having) == 1 else (f"it holds {len(having)} structures ({names}); the first is taken",)
    return having[0].as_string(), told


@lru_cache(maxsize=64)
def read_crystal(text: str, origin: str) -> Crystal:
    """Read the first block of a CIF.

    Raises
    ------
    PhaseError
        If the text is no CIF, or has no cell, symmetry or sites that could be used.
    """
    block = _document(text, origin)[0]
    cell = read_cell(block, origin)
    choices, assumed = candidates(block, cell, origin)
    formula = _formula(block)
    rows, about_rows = _rows(block, cell, formula, origin)
    symmetry, about_origin = _choose(choices, rows, cell, formula)
    fitting = symmetry.fit_cell(cell, origin)
    if fitting != cell:
        assumed.append(f"its cell is rounded to what {symmetry.name} allows")
    sites = tuple(_place(row, symmetry, fitting) for row in rows)
    about = (*assumed, *about_origin, *about_rows)
    return Crystal(block.name, fitting, symmetry, sites, about)


def _document(text: str, origin: str) -> list[gemmi.cif.Block]:
    try:
        blocks = list(gemmi.cif.read_string(_ascii(text)))
    except (ValueError, RuntimeError) as error:
        raise PhaseError(f"{origin} is not a CIF that gemmi can read: {error}") from error
    if not blocks:
        raise PhaseError(f"{origin} is not a CIF that gemmi can read: it has no data_ block")
    return blocks


def _ascii(text: str) -> str:
    """Return the text without what CIF 1.1 forbids: byte order mark, accents, Greek letters."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKD", text.removeprefix("\ufeff"))
    kept = (c for c in plain if not unicodedata.combining(c))
    return "".join(
        c if c.isascii() else "-" if unicodedata.category(c) == "Pd" or c == "−" else "_" for c in kept
    )


def _formula(block: gemmi.cif.Block) -> dict[str, float]:
    """Return the elements of _chemical_formula_sum with their numbers; empty if there is none."""
    text = gemmi.cif.as_string(block.find_value("_chemical_formula_sum") or "?")
    counts: dict[str, float] = {}
    for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", text):
        counts[symbol] = counts.get(symbol, 0.0) + float(number or 1)
    return counts


def _rows(
    block: gemmi.cif.Block, cell: Cell, formula: Mapping[str, float], origin: str
) -> tuple[list[_Row], list[str]]:
    loop = _site_table(block)
    if not loop:
        raise PhaseError(f"{origin} has no atom sites, and a pattern needs them; add the _atom_site loop")
    anisotropic = _equivalents(block, cell)
    rows, notes = [], _Notes()
    for entry in loop:
        row = _row(entry, formula, anisotropic, notes, origin)
        if row is not None:
            rows.append(row)
    if not rows:
        raise PhaseError(f"no atom site of {origin} has coordinates, and a pattern needs them; add them")
    unknown = [row.label for row in rows if row.element == "X"]
    if unknown:
        raise PhaseError(
            f"{origin} has sites of unknown element: {', '.join(unknown)}; correct _atom_site_type_symbol"
        )
    return rows, notes.sentences()


class _Notes:
    """Labels of the sites by what was assumed of them."""

    def __init__(self) -> None:
        self._labels: dict[str, list[str]] = {}

    def add(self, what: str, label: str) -> None:
        self._labels.setdefault(what, []).append(label)

    def sentences(self) -> list[str]:
        return [what.format(", ".join(dict.fromkeys(labels))) for what, labels in self._labels.items()]


def _site_table(block: gemmi.cif.Block) -> list[dict[str, str]]:
    """Return the rows of the atom site loop by tag, without ``_atom_site_``; one site may be without loop."""
    columns = {tag: block.find_values(f"_atom_site_{tag}") for tag in _SITE_TAGS}
    n_sites = len(columns["fract_x"])
    full = {tag: [gemmi.cif.as_string(v) for v in c] for tag, c in columns.items() if len(c) == n_sites}
    return [{tag: values[i] for tag, values in full.items()} for i in range(n_sites)]


def _row(
    entry: Mapping[str, str],
    formula: Mapping[str, float],
    anisotropic: Mapping[str, float],
    notes: _Notes,
    origin: str,
) -> _Row | None:
    symbol = entry.get("type_symbol", "")
    label = entry.get("label", "") or symbol or "site"
    x, y, z = (_number(entry.get(f"fract_{axis}")) for axis in "xyz")
    if entry.get("calc_flag", "") == "dum" or not math.isfinite(x + y + z):
        notes.add("site {} has no coordinates or is a dummy and is left out", label)
        return None
    element = _element(symbol or label, formula)
    if not symbol:
        notes.add("no element is given for {}; it is read from the label", label)
    if symbol.upper() in ("T", "T1"):
        notes.add("tritium {} has the mass of deuterium", label)
    occupancy = _number(entry.get("occupancy"))
    if not math.isfinite(occupancy):
        occupancy = 1.0
    if occupancy < 0 or occupancy > 1.1:
        raise PhaseError(
            f"occupancy {occupancy:g} of {label} in {origin} must lie between 0 and 1; correct it"
        )
    if occupancy > 1:
        notes.add("an occupancy above 1 is taken as 1: {}", label)
    return _Row(
        label=label,
        element=element,
        occupancy=min(occupancy, 1.0),
        u_iso_A2=_displacement(entry, anisotropic, label, notes),
        position=(x, y, z),
        multiplicity=_multiplicity(entry),
    )


def _number(text: str | None) -> float:
    """Read a number with or without an uncertainty, or a fraction; NaN if it is neither."""
    if not text:
        return math.nan
    numerator, slash, denominator = text.partition("/")
    value = gemmi.cif.as_number(numerator)
    return float(value / gemmi.cif.as_number(denominator) if slash else value)


def _multiplicity(entry: Mapping[str, str]) -> int | None:
    text = entry.get("symmetry_multiplicity", entry.get("site_symmetry_multiplicity", ""))
    return int(text) if text.isdigit() else None


def _element(symbol: str, formula: Mapping[str, float]) -> str:
    """Return the element of a type symbol (``Mn3+``) or label (``Mn1``); X if there is none.

    Two letters may be one element and a label (``OW``): what the formula lists is preferred.
    """
    letters = re.match(r"[A-Za-z]*", symbol.strip().lstrip("0123456789"))
    text = letters.group(0) if letters else ""
    if text in ("T", "t"):
        return "D"  # no table knows tritium
    options = [o.capitalize() for o in (text[:2], text[:1]) if o]
    known = [o for o in dict.fromkeys(options) if gemmi.Element(o).atomic_number]
    if not known:
        return "X"
    return next((o for o in known if o in formula), known[0])


def _displacement(
    entry: Mapping[str, str], anisotropic: Mapping[str, float], label: str, notes: _Notes
) -> float:
    """Return U of a site, Å²: as given, else from the tensor, else assumed."""
    u, b = _number(entry.get("U_iso_or_equiv")), _number(entry.get("B_iso_or_equiv"))
    value = u if math.isfinite(u) else b * _TO_U
    if not math.isfinite(value):
        value = anisotropic.get(label, math.nan)
        if math.isfinite(value):
            notes.add("the anisotropic displacement of {} is taken as its isotropic equivalent", label)
    if not math.isfinite(value):
        notes.add(f"no displacement is given for {{}}; B = {ASSUMED_B_A2:g} Å² is taken", label)
        return ASSUMED_B_A2 * _TO_U
    if value < 0:
        notes.add("a negative displacement is taken as 0: {}", label)
    return max(value, 0.0)


def _equivalents(block: gemmi.cif.Block, cell: Cell) -> dict[str, float]:
    """Return U equivalent by label from the U, B or β tensors of a block, Å²."""
    labels = block.find_loop("_atom_site_aniso_label")
    found: dict[str, float] = {}
    reciprocal = np.sqrt(np.diag(np.linalg.inv(metric(cell))))
    for kind in ("U", "B", "beta"):
        columns = [block.find_loop(f"_atom_site_aniso_{kind}_{pair}") for pair in _PAIRS]
        if not len(labels) or any(len(column) != len(labels) for column in columns):
            continue
        for i, label in enumerate(labels):
            tensor = _tensor([_number(gemmi.cif.as_string(column[i])) for column in columns])
            if kind == "B":
                tensor = tensor * _TO_U
            elif kind == "beta":
                tensor = tensor / (2.0 * math.pi**2 * np.outer(reciprocal, reciprocal))
            # U_eq = tr(N U Nᵀ Gᵀ)/3 with N = diag(a*, b*, c*): Fischer & Tillmanns (1988).
            u_eq = float(np.sum(tensor * np.outer(reciprocal, reciprocal) * metric(cell)) / 3.0)
            if math.isfinite(u_eq):
                found.setdefault(gemmi.cif.as_string(label), u_eq)
    return found


def _tensor(values: Sequence[float]) -> FloatArray:
    u11, u22, u33, u12, u13, u23 = values
    return np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])


def _choose(
    choices: Sequence[Symmetry], rows: Sequence[_Row], cell: Cell, formula: Mapping[str, float]
) -> tuple[Symmetry, list[str]]:
    """Return the symmetry under which the sites make sense, where a symbol leaves the origin open."""
    if len(choices) == 1:
        return choices[0], []
    contents = [[_place(row, symmetry, cell) for row in rows] for symmetry in choices]
    listed = [row.multiplicity for row in rows]
    tests = (
        ("the multiplicities of its sites fit", [_miscount(sites, listed) for sites in contents]),
        ("its contents fit the formula", [_misfit(sites, formula) for sites in contents]),
        ("its atoms keep their distance", [_crowding(sites, cell) for sites in contents]),
    )
    for reason, scores in tests:
        best = int(np.argmin(scores))
        if max(scores) - scores[best] > 0.02:
            name = choices[best].name
            return choices[best], [
                f"it does not say which origin it uses; {name} is taken, in which {reason}"
            ]
    return choices[0], [f"it does not say which origin it uses; {choices[0].name} is taken, as is usual"]


def _place(row: _Row, symmetry: Symmetry, cell: Cell) -> Site:
    """Return the site with its images, those that fall together averaged into one atom."""
    images = symmetry.images(row.position)
    tensor = metric(cell)
    kept: list[FloatArray] = []
    left = np.ones(len(images), dtype=np.bool_)
    while left.any():
        first = images[np.argmax(left)]
        offset = images - first
        offset -= np.round(offset)
        together = left & (np.einsum("ni,ij,nj->n", offset, tensor, offset) < _SAME_ATOM_A**2)
        kept.append((first + offset[together].mean(axis=0)) % 1.0)
        left &= ~together
    return Site(row.label, row.element, row.occupancy, row.u_iso_A2, np.array(kept))


def _miscount(sites: Sequence[Site], listed: Sequence[int | None]) -> float:
    return float(sum(m is not None and m != len(s.positions) for s, m in zip(sites, listed, strict=True)))


def _misfit(sites: Sequence[Site], formula: Mapping[str, float]) -> float:
    """Return how far the ratios of the elements are from the formula's, 0 to 2."""
    atoms: dict[str, float] = {}
    for site in sites:
        atoms[site.element] = atoms.get(site.element, 0.0) + site.occupancy * len(site.positions)
    if not formula or not set(atoms) <= set(formula):
        return 0.0
    all_atoms, all_formula = sum(atoms.values()), sum(formula.values())
    return sum(abs(atoms.get(e, 0.0) / all_atoms - n / all_formula) for e, n in formula.items())


def _crowding(sites: Sequence[Site], cell: Cell) -> float:
    """Return how far the nearest two atoms fall short of 0.95 of their covalent radii."""
    positions = np.concatenate([s.positions for s in sites])
    radii = np.concatenate(
        [np.full(len(s.positions), float(gemmi.Element(s.element).covalent_r)) for s in sites]
    )
    offsets = positions[:, None] - positions[None]
    offsets -= np.round(offsets)
    distances = np.sqrt(np.einsum("abi,ij,abj->ab", offsets, metric(cell), offsets))
    shared = distances < 1e-2  # the atom itself, or another element on the same site
    relative = np.where(shared, np.inf, distances / (radii[:, None] + radii[None]))
    return max(0.0, 0.95 - float(relative.min()))
