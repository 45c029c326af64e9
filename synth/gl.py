"""The OpenGL renderer, headless: pyrender opens the context (EGL, or OSMesa where PYOPENGL_PLATFORM says so) and uploads meshes.

Its shaders, its 8-bit buffers and its reading of orthographic depth are passed by: one pass of ours into float buffers holds what
:mod:`synth.raycast` gives, by the same formulas, so that pictures agree and not only masks. Shadows are maps of the faces that look away
from a lamp, as in :mod:`synth.shadows`, a large lamp several small ones; left out is ``occlusion``: no part of the sky is hidden.
Closed meshes only (back faces are culled). One context a process, for one thread of it: start processes by spawn, not by fork.
OSMesa wants PyOpenGL 3.1.7 or newer, against what pyrender asks for.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from cad.errors import InputError
from synth.color import linear
from synth.drawable import Drawable, Light, Truth
from synth.raycast import disc
from synth.scene import Lamp, Scene, lamps_of
from synth.shadows import FINEST, lamp_frame
from synth.sky import ambient

LARGEST = 16384  # px: the side of a buffer, as far as any OpenGL is asked for

VERTEX = """#version 330 core
layout(location = 0) in vec3 place; layout(location = 1) in vec3 normal; layout(location = 2) in vec2 feature;
uniform mat4 view, projection;
out vec3 at, unit; flat out float id;
void main() {
    vec4 seen = view * vec4(place, 1.0);
    at = seen.xyz; unit = mat3(view) * normal; id = feature.x;
    gl_Position = projection * seen;
}"""

# depth comes along with the normal, as its length: float32 of mm whatever the depth buffer's bits are
TRUTH = """#version 330 core
in vec3 at, unit; flat in float id;
layout(location = 0) out vec4 result;
void main() { result = vec4(-at.z * normalize(unit), id); }"""

LIGHT = """#version 330 core
in vec3 at, unit; flat in float id;
layout(location = 0) out vec4 result;
uniform vec3 lamp[LAMPS], power[LAMPS], sky[9], matt, mirror;
uniform float exponent, lobe, perspective, shadows;
uniform mat4 chart[LAMPS];  // from the camera's frame into a lamp's map
uniform sampler2DArrayShadow maps;
vec3 from_sky(vec3 n) {
    return max(sky[0] + sky[1] * n.x + sky[2] * n.y + sky[3] * n.z + sky[4] * n.x * n.y + sky[5] * n.y * n.z
        + sky[6] * (3.0 * n.z * n.z - 1.0) + sky[7] * n.x * n.z + sky[8] * (n.x * n.x - n.y * n.y), vec3(0.0));
}
float free(int k) {  // the share of the four texels about it that hold nothing nearer to the lamp
    vec3 spot = (chart[k] * vec4(at, 1.0)).xyz;
    return texture(maps, vec4(spot.xy, float(k), spot.z - 0.5 / float(textureSize(maps, 0).x)));
}
void main() {
    vec3 n = normalize(unit), seen = perspective > 0.0 ? normalize(-at) : vec3(0.0, 0.0, 1.0);
    vec3 light = matt * from_sky(n);
    for (int k = 0; k < LAMPS; k++) {
        float lit = dot(n, lamp[k]), half_ = dot(n, normalize(lamp[k] + seen));
        if (lit <= 0.0) continue;
        float gloss = lobe * pow(max(half_, 1e-6), exponent) * lit;
        light += (shadows > 0.0 ? free(k) : 1.0) * power[k] * (matt * lit + mirror * gloss);
    }
    result = vec4(light, 1.0);
}"""


def light(item: Drawable, scene: Scene, size: int, *, samples: int = 2) -> Light:
    """What the part gives off towards a pinhole, linear: each pixel the mean of ``samples`` x ``samples`` points of it."""
    lamps, color = _points(scene), linear(np.asarray(scene.color))
    exponent = max(2.0 / max(scene.roughness, 0.08) ** 4 - 2.0, 0.0)
    canvas = _canvas()
    charts = canvas.shade(item, scene, min(FINEST, size * samples)) if scene.shadows else np.zeros((len(lamps), 4, 4))
    seen = canvas.draw(
        canvas.program(LIGHT, len(lamps)), item, scene, size * samples,
        lamp=np.array([lamp.direction for lamp in lamps]), power=np.array([lamp.power * linear(np.asarray(lamp.color)) for lamp in lamps]),
        sky=ambient(scene), matt=color * (1 - 0.5 * scene.metallic), mirror=0.04 * (1 - scene.metallic) + color * scene.metallic,
        exponent=exponent, lobe=(exponent + 8) / (8 * np.pi), perspective=float(scene.field is None), shadows=float(scene.shadows), chart=charts,
    )  # fmt: skip
    mean = sum(seen[j::samples, i::samples] for j in range(samples) for i in range(samples)) / np.float32(samples * samples)
    return Light(np.ascontiguousarray(mean[..., :3]), np.ascontiguousarray(mean[..., 3]))


def truth(item: Drawable, scene: Scene, size: int) -> Truth:
    """Depth, normals and feature ids at the pixels' middles."""
    canvas = _canvas()
    seen = canvas.draw(canvas.program(TRUTH, 0), item, scene, size)
    depth = np.linalg.norm(seen[..., :3], axis=-1)
    hit = depth > 0
    normal = seen[..., :3] / np.where(hit, depth, 1)[..., None]
    return Truth(np.where(hit, depth, np.float32(np.inf)), seen[..., 3].astype(np.uint8), normal)


def missing() -> str | None:
    """None where it can draw; else a line with what is missing and the command that brings it."""
    try:
        _canvas()
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed: pip install 'formspect[gl]'"
    except Exception as error:  # a library that is not there shows as any of five kinds: what it says is handed on
        what = " ".join(f"{type(error).__name__}: {error}".split())
        library = "libosmesa6" if os.environ.get("PYOPENGL_PLATFORM") == "osmesa" else "libegl1"
        return f"OpenGL cannot draw here ({what}): apt-get install {library} libgl1 libxrender1"
    return None


class _Canvas:
    """The process's one context, and what lives in it: programs, the buffers of the last size, the mesh that was drawn last."""

    def __init__(self) -> None:
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")  # read when OpenGL is first imported
        import pyrender
        from OpenGL import GL

        self.gl: ModuleType = GL
        self.renderer = pyrender.OffscreenRenderer(1, 1)  # pictures are drawn into buffers of our own
        self.upload = pyrender.Primitive
        self.programs: dict[tuple[str, int], int] = {}
        self.size, self.buffers = 0, None
        self.item, self.mesh = None, None
        self.frame, self.shade_frame = GL.glGenFramebuffers(2)
        self.maps = GL.glGenTextures(1)

    def program(self, fragment: str, lamps: int) -> int:
        """Compiled once for each number of ``lamps``."""
        if (fragment, lamps) not in self.programs:
            from OpenGL.GL import shaders

            self.gl.glBindVertexArray(self.gl.glGenVertexArrays(1))  # a program is validated against one
            parts = (VERTEX, self.gl.GL_VERTEX_SHADER), (fragment.replace("LAMPS", str(lamps)), self.gl.GL_FRAGMENT_SHADER)
            self.programs[fragment, lamps] = shaders.compileProgram(*(shaders.compileShader(*part) for part in parts))
        return self.programs[fragment, lamps]

    def draw(self, program: int, item: Drawable, scene: Scene, size: int, **uniforms: Any) -> np.ndarray:
        """(size, size, 4) float32: what ``program`` makes of each pixel's middle; 0 behind the part."""
        if not 1 <= size <= LARGEST:
            raise InputError("size", f"found {size} points across", wanted=f"1 to {LARGEST}")
        gl, view = self.gl, _view(scene)
        self._resize(size)
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.frame)
        gl.glClearColor(0.0, 0.0, 0.0, 0.0)
        self._pass(program, item, size, gl.GL_BACK, view=view, projection=_projection(item, scene, view), **uniforms)
        seen = gl.glReadPixels(0, 0, size, size, gl.GL_RGBA, gl.GL_FLOAT)
        return np.asarray(seen, np.float32).reshape(size, size, 4)[::-1]

    def shade(self, item: Drawable, scene: Scene, texels: int) -> np.ndarray:
        """Draws a map of each lamp's shadow; (L, 4, 4): from the camera's frame into them, each axis in [0, 1]."""
        gl, lamps, view = self.gl, _points(scene), _view(scene)
        reach = 1.02 * np.linalg.norm(item.corners - np.asarray(scene.pivot), axis=-1).max()
        square = _orthographic(reach, -reach, reach)
        towards = np.stack([_rigid(lamp_frame(lamp.direction), -lamp_frame(lamp.direction) @ scene.position) for lamp in lamps])
        self._make_maps(texels, len(lamps))
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.shade_frame)
        for k, frame in enumerate(towards):
            gl.glFramebufferTextureLayer(gl.GL_FRAMEBUFFER, gl.GL_DEPTH_ATTACHMENT, self.maps, 0, k)
            gl.glDrawBuffer(gl.GL_NONE)
            self._pass(self.program(TRUTH, 0), item, texels, gl.GL_FRONT, view=frame @ view, projection=square)
        return _rigid(np.eye(3) / 2, np.full(3, 0.5)) @ square @ towards

    def _pass(self, program: int, item: Drawable, size: int, culled: int, **uniforms: Any) -> None:
        gl = self.gl
        gl.glViewport(0, 0, size, size)
        gl.glEnable(gl.GL_DEPTH_TEST)
        gl.glEnable(gl.GL_CULL_FACE)
        gl.glCullFace(culled)
        gl.glClear(gl.GL_COLOR_BUFFER_BIT | gl.GL_DEPTH_BUFFER_BIT)
        gl.glUseProgram(program)
        for name, value in uniforms.items():
            self._set(gl.glGetUniformLocation(program, name), np.asarray(value, np.float32, order="C"))
        self._hold(item)
        self.mesh._bind()
        gl.glDrawArrays(gl.GL_TRIANGLES, 0, 3 * len(item.corners))

    def _set(self, place: int, value: np.ndarray) -> None:
        if value.shape[-2:] == (4, 4):
            self.gl.glUniformMatrix4fv(place, value.size // 16, self.gl.GL_TRUE, value)
        elif value.ndim:
            self.gl.glUniform3fv(place, value.size // 3, value)
        else:
            self.gl.glUniform1f(place, value)

    def _hold(self, item: Drawable) -> None:
        """Uploads a mesh, and frees the one before it: light and truth of a view follow one another."""
        if self.item is item:
            return
        if self.mesh is not None:
            self.mesh.delete()
        ids = np.repeat(item.feature, 3)
        self.mesh = self.upload(item.corners.reshape(-1, 3), normals=item.normals.reshape(-1, 3), texcoord_0=np.stack([ids, ids], 1))
        self.mesh._add_to_context()
        self.item = item

    def _resize(self, size: int) -> None:
        if size == self.size:
            return
        gl = self.gl
        if self.buffers is not None:
            gl.glDeleteRenderbuffers(2, self.buffers)
        self.size, self.buffers = size, gl.glGenRenderbuffers(2)
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.frame)
        kinds = (gl.GL_RGBA32F, gl.GL_COLOR_ATTACHMENT0), (gl.GL_DEPTH_COMPONENT32F, gl.GL_DEPTH_ATTACHMENT)
        for buffer, (kind, place) in zip(self.buffers, kinds, strict=True):
            gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, buffer)
            gl.glRenderbufferStorage(gl.GL_RENDERBUFFER, kind, size, size)
            gl.glFramebufferRenderbuffer(gl.GL_FRAMEBUFFER, place, gl.GL_RENDERBUFFER, buffer)

    def _make_maps(self, texels: int, layers: int) -> None:
        """Room for the maps, which are read as the share of four texels that a depth is not behind."""
        gl = self.gl
        kind, size = gl.GL_TEXTURE_2D_ARRAY, (texels, texels, layers)
        gl.glBindTexture(kind, self.maps)
        gl.glTexImage3D(kind, 0, gl.GL_DEPTH_COMPONENT32F, *size, 0, gl.GL_DEPTH_COMPONENT, gl.GL_FLOAT, None)
        for name, value in (
            (gl.GL_TEXTURE_MIN_FILTER, gl.GL_LINEAR), (gl.GL_TEXTURE_MAG_FILTER, gl.GL_LINEAR), (gl.GL_TEXTURE_MAX_LEVEL, 0),
            (gl.GL_TEXTURE_COMPARE_MODE, gl.GL_COMPARE_REF_TO_TEXTURE), (gl.GL_TEXTURE_COMPARE_FUNC, gl.GL_LEQUAL),
        ):  # fmt: skip
            gl.glTexParameteri(kind, name, value)


@cache
def _canvas() -> _Canvas:
    return _Canvas()


class Plain:
    """pyrender as its own interface draws, a node a feature: colour, depth and ids. What our own pass is measured against,
    in a process of its own."""

    def __init__(self, item: Drawable, size: int) -> None:
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        import pyrender

        self.renderer, self.scene, self.pyrender = pyrender.OffscreenRenderer(size, size), pyrender.Scene(bg_color=np.zeros(4)), pyrender
        self.ids = {}
        for k in np.unique(item.feature):
            piece = item.feature == k
            primitive = pyrender.Primitive(item.corners[piece].reshape(-1, 3), normals=item.normals[piece].reshape(-1, 3))
            self.ids[self.scene.add(pyrender.Mesh([primitive]))] = (int(k),) * 3
        self.more: list[Any] = []

    def draw(self, scene: Scene) -> tuple[np.ndarray, ...]:
        """Colour (S, S, 3) uint8, depth (S, S) float32, ids (S, S, 3) uint8."""
        for node in self.more:
            self.scene.remove_node(node)
        cameras, extent = self.pyrender, max(-2 * scene.position[2], 1.0)
        if scene.field is None:
            camera = cameras.PerspectiveCamera(np.radians(scene.angle), znear=0.1, zfar=extent, aspectRatio=1.0)
        else:
            camera = cameras.OrthographicCamera(scene.field / 2, scene.field / 2, znear=0.1, zfar=extent)
        for node in self.ids:
            self.scene.set_pose(node, _view(scene))
        lamps = [
            (cameras.DirectionalLight(intensity=np.pi * lamp.power), _rigid(lamp_frame(lamp.direction).T, np.zeros(3)))
            for lamp in lamps_of(scene)
        ]
        self.more = [self.scene.add(camera, pose=np.eye(4)), *(self.scene.add(lamp, pose=pose) for lamp, pose in lamps)]
        color, depth = self.renderer.render(self.scene)
        return color, depth, self.renderer.render(self.scene, flags=cameras.RenderFlags.SEG, seg_node_map=self.ids)[0]


def _points(scene: Scene) -> list[Lamp]:
    """The scene's lamps, a large one that casts shadows as points over its disc."""
    return [
        replace(lamp, direction=tuple(way), power=lamp.power / len(ways))
        for lamp in lamps_of(scene) for ways in [disc(lamp) if scene.shadows else np.array([lamp.direction])] for way in ways
    ]  # fmt: skip


def _rigid(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(4, 4): p -> turn p + shift."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn, shift
    return out


def _view(scene: Scene) -> np.ndarray:
    """(4, 4): from the part's frame into the camera's."""
    return _rigid(scene.rotation, scene.camera_points(np.zeros((1, 3)))[0])


def _projection(item: Drawable, scene: Scene, view: np.ndarray) -> np.ndarray:
    """(4, 4): from the camera's frame into OpenGL's cube, whose depth is no deeper than the part."""
    depths = -(item.corners.reshape(-1, 3) @ view[2, :3] + view[2, 3])
    if depths.min() < 1e-3:
        raise InputError("camera", "the part reaches behind the camera", wanted="a smaller fill or a narrower angle")
    slack = 1e-3 * np.ptp(depths) + 1e-6
    near, far = max(depths.min() - slack, 5e-4), depths.max() + slack
    if scene.field is not None:
        return _orthographic(scene.field / 2, near, far)
    slope = np.tan(np.radians(scene.angle) / 2)
    out = np.diag([1 / slope, 1 / slope, (far + near) / (near - far), 0.0])
    out[2, 3], out[3, 2] = 2 * far * near / (near - far), -1.0
    return out


def _orthographic(half: float, near: float, far: float) -> np.ndarray:
    """(4, 4): x and y within ``half`` mm, depth (along -Z) from ``near`` to ``far``, each to [-1, 1]."""
    return _rigid(np.diag([1 / half, 1 / half, -2 / (far - near)]), np.array([0.0, 0.0, -(far + near) / (far - near)]))
