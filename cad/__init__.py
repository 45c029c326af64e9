"""From a part file to watertight meshes: dimensions, features, tolerances, defects. Knows nothing of images."""

from cad.defects import DefectRecord
from cad.errors import InputError
from cad.mesh import Mesh
from cad.part import Part, Tolerance, load, parse, shelf

__all__ = ["DefectRecord", "InputError", "Mesh", "Part", "Tolerance", "load", "parse", "shelf"]
