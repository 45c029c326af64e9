"""A sample's files as bytes, and where they go: a folder of PNGs, or WebDataset shards (POSIX tar)."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from isal import isal_zlib

from synth.drawable import Truth
from synth.sampling import Drawn

FIXED = (0, 0x21)  # midnight of 1 January 1980, in a zip: the same sample gives the same bytes
LEVEL = 1


def files_of(drawn: Drawn) -> dict[str, bytes]:
    """The files of a sample, by their names in a data set's folder."""
    sample = drawn.sample
    files = {sample.image: png(drawn.image)}
    if sample.mask is not None:
        files[sample.mask] = png(np.where(drawn.mask, 255, 0).astype(np.uint8))
    if drawn.truth is not None:
        files[sample.truth] = npz(drawn.truth)
    return files


def members_of(drawn: Drawn) -> dict[str, bytes]:
    """The same files by their names in a shard: one key, its endings, and the line of samples.jsonl."""
    sample = drawn.sample
    endings = {sample.image: "png", sample.mask: "mask.png", sample.truth: "truth.npz"}
    files = {f"{sample.key}.{endings[name]}": content for name, content in files_of(drawn).items()}
    return {**files, f"{sample.key}.json": sample.line().encode()}


def png(pixels: np.ndarray) -> bytes:
    """(H, W) uint8 or uint16, or (H, W, 3) uint8, as PNG (ISO 15948). Each row as differences from the pixel before, lightly compressed by
    ISA-L: a sixth of the time that Pillow takes, and this is an inner loop."""
    height, width = pixels.shape[:2]
    depth, channels = 8 * pixels.dtype.itemsize, pixels.shape[2] if pixels.ndim == 3 else 1
    step = channels * pixels.dtype.itemsize
    raw = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"))).view(np.uint8).reshape(height, width * step)
    rows = np.empty((height, 1 + width * step), np.uint8)
    rows[:, 0], rows[:, 1 : 1 + step] = 1, raw[:, :step]
    np.subtract(raw[:, step:], raw[:, :-step], out=rows[:, 1 + step :])
    head = struct.pack(">IIBBBBB", width, height, depth, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", isal_zlib.compress(rows, LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def npz(truth: Truth) -> bytes:
    """``depth`` float32, ``normal`` float16, ``feature`` uint8, as NumPy reads them: a zip of arrays, lightly compressed."""
    body, entries = io.BytesIO(), []
    for name, values in (("depth", truth.depth), ("normal", truth.normal.astype(np.float16)), ("feature", truth.feature)):
        array = io.BytesIO()
        np.lib.format.write_array(array, values)
        raw, packed = array.getvalue(), isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15)
        content, path = packed.compress(raw) + packed.flush(), f"{name}.npy".encode()
        # what both of a zip's headers say: version, flags, deflated, time, CRC, sizes, length of the name and of nothing more
        said = struct.pack("<HHHHHIIIHH", 20, 0, 8, *FIXED, zlib.crc32(raw), len(content), len(raw), len(path), 0)
        entries.append(b"PK\1\2" + struct.pack("<H", 20) + said + struct.pack("<HHHII", 0, 0, 0, 0, body.tell()) + path)
        body.write(b"PK\3\4" + said + path + content)
    directory = b"".join(entries)
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), body.tell(), 0)
    return body.getvalue() + directory + b"PK\5\6" + end


def tar(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The same files give the same bytes: no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def tar_index(path: Path) -> dict[str, tuple[int, int]]:
    """Where the content of each file of a tar begins, and how long it is."""
    with tarfile.open(path, "r:") as archive:
        return {entry.name: (entry.offset_data, entry.size) for entry in archive if entry.isfile()}
