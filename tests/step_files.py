"""Small STEP files (ISO 10303-21, AP214), written for tests: blocks, each with a round hole through its middle along z."""

from __future__ import annotations

import math
from typing import NamedTuple

HEADER = """ISO-10303-21;
HEADER;
FILE_DESCRIPTION((''),'2;1');
FILE_NAME('','2024-01-01T00:00:00',(''),(''),'','','');
FILE_SCHEMA(('AUTOMOTIVE_DESIGN { 1 0 10303 214 1 1 1 1 }'));
ENDSEC;
DATA;
"""
SIDES = (  # corners (bit k: the far end of axis k) counter-clockwise from outside, the normal, a direction in the plane
    ((0, 2, 3, 1), (0, 0, -1), (1, 0, 0)), ((4, 5, 7, 6), (0, 0, 1), (1, 0, 0)), ((0, 1, 5, 4), (0, -1, 0), (1, 0, 0)),
    ((2, 6, 7, 3), (0, 1, 0), (1, 0, 0)), ((0, 4, 6, 2), (-1, 0, 0), (0, 1, 0)), ((1, 3, 7, 5), (1, 0, 0), (0, 1, 0)),
)  # fmt: skip


class Block(NamedTuple):
    """In the file's unit: its size, its lowest corner, and the radius of its hole (0: none)."""

    name: str
    size: tuple[float, float, float]
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hole: float = 0.0

    @property
    def volume(self) -> float:
        x, y, z = self.size
        return z * (x * y - math.pi * self.hole**2)


def step(blocks: list[Block], unit: str = "mm") -> str:
    """The file's text: each block a product; ``unit`` is mm, m or inch."""
    rows = _Rows()
    context = _context(rows, unit)
    application = rows("APPLICATION_CONTEXT('core data for automotive mechanical design processes')")
    rows(f"APPLICATION_PROTOCOL_DEFINITION('international standard','automotive_design',2000,{application})")
    product_context = rows(f"PRODUCT_CONTEXT('',{application},'mechanical')")
    definition_context = rows(f"PRODUCT_DEFINITION_CONTEXT('part definition',{application},'design')")
    for block in blocks:
        shape = rows(
            f"ADVANCED_BREP_SHAPE_REPRESENTATION('',({rows.axes((0, 0, 0), (0, 0, 1), (1, 0, 0))},{_solid(rows, block)}),{context})"
        )
        product = rows(f"PRODUCT('{block.name}','{block.name}','',({product_context}))")
        formation = rows(f"PRODUCT_DEFINITION_FORMATION('','',{product})")
        definition = rows(f"PRODUCT_DEFINITION('design','',{formation},{definition_context})")
        about = rows(f"PRODUCT_DEFINITION_SHAPE('','',{definition})")
        rows(f"SHAPE_DEFINITION_REPRESENTATION({about},{shape})")
    return HEADER + "".join(f"#{i}={row};\n" for i, row in enumerate(rows.all, 1)) + "ENDSEC;\nEND-ISO-10303-21;\n"


class _Rows:
    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self, text: str) -> str:
        self.all.append(text)
        return f"#{len(self.all)}"

    def point(self, p: tuple) -> str:
        return self(f"CARTESIAN_POINT('',({','.join(f'{v:.9f}' for v in p)}))")

    def direction(self, p: tuple) -> str:
        return self(f"DIRECTION('',({','.join(f'{v:.9f}' for v in p)}))")

    def axes(self, at: tuple, z: tuple, x: tuple) -> str:
        return self(f"AXIS2_PLACEMENT_3D('',{self.point(at)},{self.direction(z)},{self.direction(x)})")

    def vertex(self, p: tuple) -> str:
        return self(f"VERTEX_POINT('',{self.point(p)})")

    def line(self, a: tuple, b: tuple, start: str, end: str) -> str:
        vector = self(f"VECTOR('',{self.direction([(q - p) / math.dist(a, b) for p, q in zip(a, b, strict=True)])},1.)")
        line = self(f"LINE('',{self.point(a)},{vector})")
        return self(f"EDGE_CURVE('',{start},{end},{line},.T.)")

    def loop(self, edges: list[tuple[str, str]]) -> str:
        oriented = [self(f"ORIENTED_EDGE('',*,*,{edge},{way})") for edge, way in edges]
        return self(f"EDGE_LOOP('',({','.join(oriented)}))")


def _context(rows: _Rows, unit: str) -> str:
    metres = "(LENGTH_UNIT()NAMED_UNIT(*)SI_UNIT({},.METRE.))"
    if unit == "inch":
        measure = rows(f"LENGTH_MEASURE_WITH_UNIT(LENGTH_MEASURE(25.4),{rows(metres.format('.MILLI.'))})")
        exponents = rows("DIMENSIONAL_EXPONENTS(1.,0.,0.,0.,0.,0.,0.)")
        length = rows(f"(CONVERSION_BASED_UNIT('INCH',{measure})LENGTH_UNIT()NAMED_UNIT({exponents}))")
    else:
        length = rows(metres.format({"mm": ".MILLI.", "m": "$"}[unit]))
    angle = rows("(NAMED_UNIT(*)PLANE_ANGLE_UNIT()SI_UNIT($,.RADIAN.))")
    solid_angle = rows("(NAMED_UNIT(*)SI_UNIT($,.STERADIAN.)SOLID_ANGLE_UNIT())")
    exact = rows(f"UNCERTAINTY_MEASURE_WITH_UNIT(LENGTH_MEASURE(1.E-07),{length},'distance_accuracy_value','')")
    return rows(
        f"(GEOMETRIC_REPRESENTATION_CONTEXT(3)GLOBAL_UNCERTAINTY_ASSIGNED_CONTEXT(({exact}))"
        f"GLOBAL_UNIT_ASSIGNED_CONTEXT(({length},{angle},{solid_angle}))REPRESENTATION_CONTEXT('',''))"
    )


def _solid(rows: _Rows, block: Block) -> str:
    corners = [tuple(block.at[k] + (i >> k & 1) * block.size[k] for k in range(3)) for i in range(8)]
    vertices, edges = [rows.vertex(c) for c in corners], {}

    def edge(a: int, b: int) -> tuple[str, str]:
        low, high = min(a, b), max(a, b)
        if (low, high) not in edges:
            edges[low, high] = rows.line(corners[low], corners[high], vertices[low], vertices[high])
        return edges[low, high], ".T." if a < b else ".F."

    circles = [_circle(rows, block, z) for z in (block.at[2], block.at[2] + block.size[2])] if block.hole else []
    faces = []
    for ring, normal, along in SIDES:
        loop = rows.loop([edge(a, b) for a, b in zip(ring, (*ring[1:], ring[0]), strict=True)])
        bounds = [rows(f"FACE_OUTER_BOUND('',{loop},.T.)")]
        if circles and normal[2]:
            inner = rows.loop([(circles[normal[2] > 0][0], ".F." if normal[2] > 0 else ".T.")])
            bounds.append(rows(f"FACE_BOUND('',{inner},.T.)"))
        plane = rows(f"PLANE('',{rows.axes(corners[ring[0]], normal, along)})")
        faces.append(rows(f"ADVANCED_FACE('',({','.join(bounds)}),{plane},.T.)"))
    if circles:
        (low, start, first), (high, end, second) = circles
        seam = rows.line(start, end, first, second)
        loop = rows.loop([(low, ".F."), (seam, ".T."), (high, ".T."), (seam, ".F.")])
        axes = rows.axes((*_middle(block), block.at[2]), (0, 0, 1), (1, 0, 0))
        wall = rows(f"CYLINDRICAL_SURFACE('',{axes},{block.hole:.9f})")
        bound = rows(f"FACE_BOUND('',{loop},.T.)")
        faces.append(rows(f"ADVANCED_FACE('',({bound}),{wall},.F.)"))
    shell = rows(f"CLOSED_SHELL('',({','.join(faces)}))")
    return rows(f"MANIFOLD_SOLID_BREP('{block.name}',{shell})")


def _circle(rows: _Rows, block: Block, z: float) -> tuple[str, tuple, str]:
    x, y = _middle(block)
    start = (x + block.hole, y, z)
    vertex = rows.vertex(start)
    circle = rows(f"CIRCLE('',{rows.axes((x, y, z), (0, 0, 1), (1, 0, 0))},{block.hole:.9f})")
    return rows(f"EDGE_CURVE('',{vertex},{vertex},{circle},.T.)"), start, vertex


def _middle(block: Block) -> tuple[float, float]:
    return block.at[0] + block.size[0] / 2, block.at[1] + block.size[1] / 2
