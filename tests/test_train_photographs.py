"""Photographs of every kind come in alike; what is no usable photograph is refused in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cad.errors import InputError
from train.photographs import ENDINGS, Photograph, find_images, read, read_all

GREYS = np.add.outer(np.arange(32) * 7, np.arange(32)).astype(np.uint8)  # (32, 32), 0 to 248
COLOURS = np.stack([GREYS, GREYS[::-1], GREYS.T], axis=2)


def saved(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def grey3(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".tiff", ".webp", ".PNG"])
def test_colour_comes_in_as_it_is(tmp_path: Path, ending: str) -> None:
    found = read(saved(tmp_path / f"a{ending}", COLOURS, **({"lossless": True} if ending == ".webp" else {})), 32)
    assert np.array_equal(found.pixels, COLOURS) and found.pixels.dtype == np.uint8
    assert (found.width, found.height, found.scale, found.offset) == (32, 32, 1.0, (0, 0))


def test_jpeg_comes_in_nearly_as_it_is(tmp_path: Path) -> None:
    found = read(saved(tmp_path / "a.jpg", GREYS, quality=95), 32)
    assert np.abs(found.pixels.astype(int) - grey3(GREYS)).mean() < 2  # JPEG's own loss, grey levels


def test_grey_comes_in_three_times(tmp_path: Path) -> None:
    assert np.array_equal(read(saved(tmp_path / "a.png", GREYS), 32).pixels, grey3(GREYS))


def test_every_level_of_16_bits_that_8_bits_have_is_kept(tmp_path: Path) -> None:
    levels = np.arange(256).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        found = read(saved(tmp_path / name, (levels * 257).astype(np.uint16)), 16)
        assert np.array_equal(found.pixels, grey3(levels))


def test_16_bits_between_two_levels_go_to_the_nearer(tmp_path: Path) -> None:
    values = np.full((16, 16), 257 * 100 + 200, np.uint16)
    assert np.unique(read(saved(tmp_path / "a.png", values), 16).pixels).tolist() == [101]


def test_a_dark_16_bit_photograph_stays_dark(tmp_path: Path) -> None:
    values = np.full((16, 16), 250, np.uint16)
    values[0, 0] = 300
    assert read(saved(tmp_path / "a.png", values), 16).pixels.max() == 1


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floating_point_greys(tmp_path: Path, top: float) -> None:
    levels = np.arange(256).reshape(16, 16)
    found = read(saved(tmp_path / "a.tif", (levels / 255 * top).astype(np.float32)), 16)
    assert np.array_equal(found.pixels, grey3(levels))


def test_transparency_is_black(tmp_path: Path) -> None:
    rgba = np.dstack([COLOURS, np.full((32, 32), 255, np.uint8)])
    rgba[:, 16:, 3] = 0
    rgba[:, :4, 3] = 128
    found = read(saved(tmp_path / "a.png", rgba), 32).pixels
    assert np.array_equal(found[:, 4:16], COLOURS[:, 4:16]) and not found[:, 16:].any()
    assert np.abs(found[:, :4] - COLOURS[:, :4] * (128 / 255)).max() <= 1  # rounded


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_palette(tmp_path: Path, ending: str) -> None:
    image = Image.fromarray(GREYS // 16, "P")
    image.putpalette([c for k in range(16) for c in (k * 10, 255 - k * 10, k)])
    index = (GREYS // 16).astype(np.uint8)
    assert np.array_equal(read(saved(tmp_path / f"a{ending}", image), 32).pixels, np.dstack([index * 10, 255 - index * 10, index]))


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.fromarray((GREYS > 100).astype(np.uint8), "P")
    image.putpalette([200, 10, 10, 10, 200, 10])
    found = read(saved(tmp_path / "a.png", image, transparency=0), 32).pixels
    assert np.array_equal(found, np.where((GREYS > 100)[..., None], np.uint8([10, 200, 10]), np.uint8(0)))


def test_one_bit(tmp_path: Path) -> None:
    bits = GREYS > 100
    assert np.array_equal(read(saved(tmp_path / "a.png", Image.fromarray(bits)), 32).pixels, grey3(bits.astype(np.uint8) * 255))


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_turned_camera_is_turned_back(tmp_path: Path, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tall = COLOURS[:, :20]
    found = read(saved(tmp_path / "a.png", tall, exif=exif), 32)
    expected = np.rot90(tall, turn)
    assert (found.height, found.width) == expected.shape[:2]
    x, y = found.offset
    assert np.array_equal(found.pixels[y : y + found.height, x : x + found.width], expected)


def test_not_square_is_padded_with_the_borders_median(tmp_path: Path) -> None:
    wide = np.full((20, 40, 3), (9, 90, 190), np.uint8)
    wide[5:15, 5:15] = 255
    found = read(saved(tmp_path / "a.png", wide), 40)
    assert found.offset == (0, 10) and found.scale == 1
    assert np.array_equal(found.pixels[10:30], wide)
    assert np.unique(np.concatenate([found.pixels[:10], found.pixels[30:]]).reshape(-1, 3), axis=0).tolist() == [[9, 90, 190]]


@pytest.mark.parametrize(("width", "height"), [(40, 40), (120, 48), (33, 97), (16, 17)])
@pytest.mark.parametrize("size", [32, 64])
def test_a_box_finds_its_way_back(tmp_path: Path, width: int, height: int, size: int) -> None:
    box = [width // 4, height // 3, width // 4 + width // 2, height // 3 + height // 2]
    values = np.zeros((height, width), np.uint8)
    values[box[1] : box[3], box[0] : box[2]] = 255
    found = read(saved(tmp_path / "a.png", values), size)
    ys, xs = np.nonzero(found.pixels[..., 0] > 127)
    back = found.own_box((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    assert np.abs(np.subtract(back, box)).max() <= max(1, found.scale)  # a pixel of what the networks see, at least one of its own


@pytest.mark.parametrize(("width", "height"), [(40, 40), (120, 48), (33, 97)])
def test_the_whole_picture_is_clipped_to_the_photograph(width: int, height: int) -> None:
    photograph = Photograph(Path("a.png"), np.zeros((32, 32, 3), np.uint8), width, height)
    assert photograph.own_box((0, 0, 32, 32)) == [0, 0, width, height]


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
def test_too_small_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"is {size[0]} x {size[1]} px; wanted at least 16 px a side"):
        read(saved(tmp_path / "a.png", Image.new("L", size)), 32)


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_too_large_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(headed(side))  # no pixels follow: decoding would say that it is damaged
    with pytest.raises(InputError, match=r"wanted at most 100 megapixels \(crop to the part\)"):
        read(tmp_path / "a.png", 32)


@pytest.mark.parametrize("size", [(20_001, 16), (16, 60_000)])
def test_a_strip_whose_square_would_fill_the_memory_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"wanted at most 20000 px a side \(crop to the part\)"):
        read(saved(tmp_path / "a.png", Image.new("1", size)), 32)


def test_a_photograph_of_almost_the_limit_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(headed(9_900))  # 98 megapixels
    with pytest.raises(InputError, match="is damaged"):
        read(tmp_path / "a.png", 32)


def test_text_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.png", b"not a picture\n"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: is not an image that can be read; wanted one of .png"):
            read(tmp_path / name, 32)


def test_half_a_jpeg_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", COLOURS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"a.jpg: is damaged: .*; wanted a whole image file"):
        read(path, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_cut_anywhere_it_is_refused(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, kind)
    content, path = buffer.getvalue(), tmp_path / "a.img"
    for length in np.linspace(0, 0.98 * len(content), 50).astype(int):  # in the last bytes only an end mark may be gone
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"is damaged|is not an image"):
            read(path, 32)


def test_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.png: no such file; wanted an image"):
        read(tmp_path / "none.png", 32)


def test_a_folder_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; wanted an image \(name the files: "):
        read(tmp_path, 32)


def test_find_images_has_images_alone_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.webp", "notes.txt", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in find_images(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]


def test_find_images_refuses_a_folder_without(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no images; wanted files ending in " + ", ".join(ENDINGS)):
        find_images(tmp_path)
    with pytest.raises(InputError, match="none: no such folder"):
        find_images(tmp_path / "none")
    with pytest.raises(InputError, match=r"notes.txt: is a file"):
        find_images(tmp_path / "notes.txt")


def test_read_all_keeps_the_order(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{k}.png", GREYS // (k + 1)) for k in (2, 0, 1)]
    assert [p.path for p in read_all(paths, 32)] == paths


def headed(side: int) -> bytes:
    """A PNG that says it is side x side px, and has no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
