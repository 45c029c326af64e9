"""The page in which a part turns, and the picture with its names."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner

import cad
from cad.cli import cad as commands
from cad.viewer import CORNER, borders, corner_normals, packed, page

PROBE = """<script>
setTimeout(() => {
  const canvas = document.getElementById("view"), at = (type, x, y, id = 1) => canvas.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, pointerId: id, bubbles: true }));
  canvas.setPointerCapture = () => {};
  const w = canvas.clientWidth / 2, h = canvas.clientHeight / 2, seen = [];
  const look = () => { at("pointermove", w, h); seen.push(document.getElementById("name").textContent); };
  look();
  at("pointerdown", w, h); at("pointermove", w, h - Math.min(w, h) * 2 * 2.0 / 4); at("pointerup", w, h);
  look();
  at("pointermove", 2 * w - 3, 3); seen.push(document.getElementById("name").style.display);
  document.title = JSON.stringify(seen);
}, 500);
</script>"""


def unpacked(part: cad.Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data = {k: base64.b64decode(v) for k, v in packed(part.mesh()).items()}
    return (
        np.frombuffer(data["corners"], CORNER),
        np.frombuffer(data["faces"], "<u4").reshape(-1, 3),
        np.frombuffer(data["edges"], "<f4").reshape(-1, 2, 3),
    )


@pytest.mark.parametrize("name", ["notched_cap", "bracket"])
def test_the_page_has_the_whole_part(name: str) -> None:
    part = cad.load(name)
    mesh, (corners, faces, edges) = part.mesh(), unpacked(part)
    again = trimesh.Trimesh(corners["position"].astype(float), faces, process=False)
    assert again.volume == pytest.approx(mesh.volume, rel=1e-5)
    assert np.array_equal(corners["feature"][faces], np.repeat(mesh.feature[:, None], 3, 1))
    assert len(edges) == len(borders(mesh))
    outward = np.einsum("ijk,ik->ij", corners["normal"][faces] / 127.0, mesh.face_normals)[mesh.areas > 1e-6]
    assert outward.min() > np.cos(np.radians(30)) - 0.02  # no corner is shaded from beyond a crease


def test_normals_of_a_ball_are_radial_and_of_a_box_its_faces() -> None:
    ball = cad.parse("part: p\nfeatures: [{name: a, add: sphere, radius: 10}]").mesh()
    radial = ball.triangles / np.linalg.norm(ball.triangles, axis=2, keepdims=True)
    assert np.einsum("ijk,ijk->ij", corner_normals(ball), radial).min() > 0.999
    box = cad.parse("part: p\nfeatures: [{name: a, add: box, size: [1, 2, 3]}]").mesh()
    assert corner_normals(box) == pytest.approx(np.repeat(box.face_normals[:, None], 3, 1))
    assert len(borders(box)) == 12
    assert len(borders(ball)) == 0


def test_nothing_is_fetched_and_no_name_ends_the_script() -> None:
    text = page(cad.load("hex_nut"))
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|\bimport\b|fetch\(|XMLHttp", text)
    assert "{{" not in text
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S)[1])
    assert [f["name"] for f in data["features"]] == ["body", "chamfer", "bore"]


def test_the_command_writes_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        commands, ["show", "hex_nut", "-o", str(tmp_path / "n.png"), "--size", "32", "--web", str(tmp_path / "n.html")]
    )
    assert done.exit_code == 0
    assert (tmp_path / "n.html").read_text(encoding="utf-8") == page(cad.load("hex_nut"))


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_in_a_browser_the_part_turns_and_says_its_names(cap: cad.Part, tmp_path: Path) -> None:
    """From above the crown is in the middle; turned by two radians about the screen's horizontal, what was below."""
    (tmp_path / "cap.html").write_text(page(cap).replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path / 'profile'}",
               "--window-size=900,700", "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path / 'cap.html'}"]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(\[.*?\])</title>", found.stdout)
    if '<p id="about">This browser has no WebGL 2' in found.stdout:
        pytest.skip("this chromium draws nothing")
    assert title, found.stderr[-500:]
    assert json.loads(title[1]) == ["crown", "cavity", "none"]


def test_the_picture_names_what_it_shows(cap: cad.Part) -> None:
    """Each sub-component has one spot, in the view that shows most of it, and the spot is on it."""
    from synth.picture import _spots

    ids = np.zeros((2, 40, 40), np.int32)
    ids[0, 5:30, 5:15] = 1
    ids[1, 5:10, 5:10] = 1
    ids[1, 20:36, 8:36] = 3
    spots = _spots(list(ids))
    assert [[s[0] for s in view] for view in spots] == [[1], [3]]
    for view, own in zip(ids, spots, strict=True):
        for feature, x, y in own:
            assert (view[y - 3 : y + 4, x - 3 : x + 4] == feature).all()
