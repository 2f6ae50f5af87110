"""Faces that are drawn from numbers: records of causes, and pictures, label maps and outlines of them."""

from genus.geometry.faces.canvas import REGIONS
from genus.geometry.faces.record import NUMBERS, Faces
from genus.geometry.faces.render import Drawing, draw, pictures

__all__ = ["NUMBERS", "REGIONS", "Drawing", "Faces", "draw", "pictures"]
