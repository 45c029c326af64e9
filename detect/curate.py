"""A folder of photographs, made fit to measure on: what is double, blurred, over-exposed, cropped or of another size is found and said, and
what leaks from calibration into test. The answer is a file that a person edits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from scipy import ndimage

from cad.command import progress
from cad.errors import InputError
from cad.files import sha256, write
from cad.reading import read_yaml, yaml_text
from detect.metrics import auroc
from detect.silhouette import silhouettes
from train.photographs import ENDINGS, find_images, read

FORMAT = 1
NAME = "curated.yaml"
SIZE, SMALL = 160, 32  # px at which photographs are looked at, and compared with each other
TWINS = 0.02  # mean difference of two photographs, in deviations of their own, below which one is the other's copy, saved anew
NEAR = 0.05  # below which they show the same scene
BLURRED = 0.4  # of the set's median sharpness, below which one is blurred
BURNT = 0.03  # share of saturated pixels, more than thrice the set's median, that is over-exposed
TELLING = 0.95  # AUROC from which brightness or colour alone tells a class
SPLITS = ("calibrate", "train", "test")
TILE, COLUMNS = 96, 12  # px, of the contact sheet


@dataclass(frozen=True)
class Entry:
    """One photograph: ``file`` below the set's folder, its ``sha256``, ``label``, ``split`` (of SPLITS), why it is ``excluded`` (None: it is
    not), and what else is to be known of it."""

    file: str
    sha256: str
    label: str
    split: str
    excluded: str | None = None
    notes: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        out = {"file": self.file, "sha256": self.sha256, "label": self.label, "split": self.split, "excluded": self.excluded}
        return out | ({"notes": list(self.notes)} if self.notes else {})


@dataclass(frozen=True)
class Curated:
    """A set: its ``folder``, its ``entries`` and what holds of it as a whole."""

    folder: Path
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()

    def of(self, split: str) -> list[Entry]:
        """Those that are not excluded."""
        return [e for e in self.entries if e.split == split and e.excluded is None]

    def paths(self, split: str, label: str | None = None) -> list[Path]:
        return [self.folder / e.file for e in self.of(split) if label in (None, e.label)]

    def leaks(self) -> list[tuple[str, str]]:
        """Pairs of the same file in ``calibrate`` or ``train``, and in ``test``."""
        learned = {e.sha256: e.file for split in ("calibrate", "train") for e in self.of(split)}
        return [(learned[e.sha256], e.file) for e in self.of("test") if e.sha256 in learned]

    def text(self) -> str:
        head = ["# A set of photographs: edit labels, splits and what is excluded (why, or null); files are found below this one."]
        head += [f"# {w}" for w in self.warnings]
        entries = [e.data() for e in self.entries]
        return "\n".join(head) + "\n" + yaml_text({"format": FORMAT, "images": entries}, width=160)


@dataclass(frozen=True, eq=False)
class _Looked:
    """What one photograph is told by: a standardised thumbnail (SMALL^2,), sharpness, share of saturated pixels, shape, six numbers of its
    colour, why it shows no whole part, whether EXIF turns it."""

    entry: Entry
    thumb: np.ndarray
    sharpness: float
    burnt: float
    shape: tuple[int, int]
    color: np.ndarray
    part: str | None
    turned: bool
    picture: Image.Image = field(repr=False)


def curate(folder: str | Path) -> tuple[Curated, Image.Image]:
    """The set of a folder, FOLDER/<split>/<label> or FOLDER/<label>, and a contact sheet. Raises InputError where it holds no photographs."""
    folder = Path(folder)
    found = list(_files(folder))
    if not found:
        raise InputError(folder, "holds no photographs", wanted="FOLDER/calibrate/good and FOLDER/test/<class>, or FOLDER/<class>")
    looked: list[_Looked] = []
    with progress(len(found), "looking", "images") as advance:
        for split, label, path in found:
            looked.append(_look(folder, split, label, path))
            advance()
    judged = _judged(looked)
    data = Curated(folder, tuple(judged), tuple(_warnings(looked)))
    return data, _sheet(judged, [one.picture for one in looked])


def save(data: Curated, path: Path | None = None) -> Path:
    path = path or data.folder / NAME
    write(path, data.text())
    return path


def open_curated(path: str | Path, *, check: bool = True) -> Curated:
    """From a file of :func:`save`, or a plain folder in MVTec AD's layout. ``check``: that files are there and are what they were.

    Raises InputError with the entry's place.
    """
    path = Path(path)
    if path.is_dir():
        if (path / NAME).exists():
            return open_curated(path / NAME, check=check)
        return Curated(path, tuple(Entry(p.relative_to(path).as_posix(), sha256(p), label, split) for split, label, p in _files(path)))
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}", wanted="a curated set") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("images"), list):
        raise InputError(path, "is no curated set", wanted=f"format: {FORMAT} and a list of images", step="detect curate FOLDER writes one")
    entries = [_entry(f"{path}: images.{k}", row) for k, row in enumerate(data["images"])]
    for k, entry in enumerate(entries if check else ()):
        file = path.parent / entry.file
        if entry.excluded is None and (not file.is_file() or sha256(file) != entry.sha256):
            raise InputError(
                f"{path}: images.{k}", f"{entry.file} {'was changed' if file.is_file() else 'is missing'}", step="detect curate again"
            )
    return Curated(path.parent, tuple(entries))


def _entry(place: str, row: Any) -> Entry:
    wanted = "file, sha256, label, split and excluded"
    if not isinstance(row, dict) or not all(isinstance(row.get(k), str) for k in ("file", "sha256", "label", "split")):
        raise InputError(place, f"found {str(row)[:80]}", wanted=wanted)
    if row["split"] not in SPLITS:
        raise InputError(f"{place}.split", f'found "{row["split"]}"', wanted=", ".join(SPLITS))
    excluded = row.get("excluded") or None
    if excluded is not None and not isinstance(excluded, str):
        raise InputError(f"{place}.excluded", f"found {excluded!r}", wanted="why, in words, or null")
    return Entry(row["file"], row["sha256"], row["label"], row["split"], excluded, tuple(map(str, row.get("notes") or ())))


def _files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(split, label, path); without splits, every other good one is for calibration."""
    if not folder.is_dir():
        raise InputError(folder, "no such folder", wanted="a folder of photographs")
    named = [s for s in SPLITS if (folder / s).is_dir()]
    for split in named:
        for label in sorted(d for d in (folder / split).iterdir() if d.is_dir()):
            if any(p.suffix.lower() in ENDINGS for p in label.iterdir()):
                yield from ((split, label.name, p) for p in find_images(label))
    if not named:
        for label in sorted(d for d in folder.iterdir() if d.is_dir()):
            if any(p.suffix.lower() in ENDINGS for p in label.iterdir()):
                for k, path in enumerate(find_images(label)):
                    yield "calibrate" if label.name == "good" and k % 2 == 0 else "test", label.name, path


def _look(folder: Path, split: str, label: str, path: Path) -> _Looked:
    entry = Entry(path.relative_to(folder).as_posix(), "", label, split)
    try:
        pixels = read(path, SIZE).pixels
    except InputError as error:
        blank = Image.new("RGB", (TILE, TILE), "black")
        return _Looked(replace(entry, sha256=sha256(path), excluded=error.problem), np.full(SMALL * SMALL, np.nan), np.nan, np.nan, (0, 0), np.full(6, np.nan), None, False, blank)  # fmt: skip
    with Image.open(path) as image:
        shape, turned = ImageOps.exif_transpose(image).size, image.getexif().get(274, 1) != 1
    grey = pixels.mean(2) / 255
    small = grey.reshape(SMALL, SIZE // SMALL, SMALL, SIZE // SMALL).mean((1, 3)).ravel()
    steps = ndimage.gaussian_gradient_magnitude(grey, 0.7)
    faults = [seen.reason for seen in silhouettes(grey)]
    return _Looked(
        replace(entry, sha256=sha256(path)), (small - small.mean()) / max(small.std(), 1e-3), float(np.quantile(steps, 0.99)) / max(float(np.ptp(np.quantile(grey, (0.02, 0.98)))), 0.02),
        float((pixels >= 252).all(2).mean()), shape, np.array([*pixels.mean((0, 1)), *pixels.std((0, 1))]), None if None in faults else faults[0], turned,
        Image.fromarray(pixels).resize((TILE, TILE)),
    )  # fmt: skip


def _judged(looked: list[_Looked]) -> list[Entry]:
    sharp, burnt = (np.nanmedian([getattr(one, n) for one in looked]) for n in ("sharpness", "burnt"))
    usual = Counter(one.shape for one in looked if one.shape != (0, 0)).most_common(1)
    out = []
    for one, twin in zip(looked, _twins(looked), strict=True):
        why, notes = one.entry.excluded, []
        if why is None and twin is not None:
            other, same = twin
            crossing = other.split != one.entry.split and "test" in (other.split, one.entry.split)
            words = f"{same} as {other.file}"
            why, notes = (words, []) if same != "the same scene" or crossing else (None, [words])
        if why is None and one.sharpness < BLURRED * sharp:
            why = f"blurred: {one.sharpness / sharp:.2f} times as sharp as most"
        if why is None and one.burnt > max(BURNT, 3 * burnt):
            why = f"over-exposed: {100 * one.burnt:.0f} % of it is saturated"
        if why is None and one.part is not None and one.entry.label == "good":
            why = one.part
        elif one.part is not None and why is None:
            notes.append(one.part)
        if usual and one.shape not in ((0, 0), usual[0][0]):
            notes.append(f"{one.shape[0]} x {one.shape[1]} px, most are {usual[0][0][0]} x {usual[0][0][1]}")
        if one.turned:
            notes.append("turned by its EXIF data, which is followed")
        out.append(replace(one.entry, excluded=why, notes=tuple(notes)))
    return out


def _twins(looked: list[_Looked]) -> list[tuple[Entry, str] | None]:
    """For each photograph an earlier one that it repeats, and how; test ones count as earlier: what they show is not to be learned."""
    order = sorted(range(len(looked)), key=lambda k: (looked[k].entry.split != "test", k))
    thumbs = np.stack([one.thumb for one in looked])
    out: list[tuple[Entry, str] | None] = [None] * len(looked)
    for position, k in enumerate(order):
        before = order[:position]
        if not before or not np.isfinite(thumbs[k]).all():
            continue
        same = next((j for j in before if looked[j].entry.sha256 == looked[k].entry.sha256), None)
        if same is not None:
            out[k] = (looked[same].entry, "the same file")
            continue
        gaps = np.abs(thumbs[before] - thumbs[k]).mean(1)
        near = np.flatnonzero(gaps < NEAR)
        if len(near):
            # one on the other side of test counts first: that the same scene is learned from and tested on is what must not be
            across = [j for j in near if (looked[before[j]].entry.split == "test") != (looked[k].entry.split == "test")]
            nearest = min(across or near, key=lambda j: gaps[j])
            out[k] = (looked[before[nearest]].entry, "the same picture" if gaps[nearest] < TWINS else "the same scene")
    return out


def _warnings(looked: list[_Looked]) -> Iterator[str]:
    good = [one.color for one in looked if one.entry.label == "good" and one.entry.split == "test" and np.isfinite(one.color).all()]
    for label in dict.fromkeys(one.entry.label for one in looked if one.entry.label != "good"):
        bad = [one.color for one in looked if one.entry.label == label and np.isfinite(one.color).all()]
        if len(good) < 3 or len(bad) < 3:
            continue
        best, what = max((max(a := auroc(np.array(good)[:, k], np.array(bad)[:, k]), 1 - a), NUMBERS[k]) for k in range(6))
        if best >= TELLING:
            yield f"{label}: {what} alone tells it from good (AUROC {best:.3f}); a score that sees brightness or colour proves nothing about shape"


NUMBERS = ("mean red", "mean green", "mean blue", "the spread of red", "the spread of green", "the spread of blue")


def _sheet(entries: list[Entry], pictures: list[Image.Image]) -> Image.Image:
    """A block for each split and label; what is excluded is crossed out, with why below."""
    groups: dict[str, list[int]] = {}
    for k, entry in enumerate(entries):
        groups.setdefault(f"{entry.split}/{entry.label}", []).append(k)
    cell = TILE + 16
    height = sum(20 + -(-len(g) // COLUMNS) * cell for g in groups.values())
    sheet = Image.new("RGB", (COLUMNS * (TILE + 4), height), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for name, members in groups.items():
        left_out = sum(entries[k].excluded is not None for k in members)
        pen.text((4, top + 4), f"{name}: {len(members)}" + (f", {left_out} excluded" if left_out else ""), fill="black")
        top += 20
        for i, k in enumerate(members):
            x, y = (i % COLUMNS) * (TILE + 4), top + (i // COLUMNS) * cell
            sheet.paste(pictures[k], (x, y))
            if entries[k].excluded is not None:
                pen.line([x, y, x + TILE, y + TILE], fill=(255, 40, 40), width=2)
                pen.text((x + 1, y + TILE + 1), entries[k].excluded[:17], fill=(200, 0, 0))
        top += -(-len(members) // COLUMNS) * cell
    return sheet
