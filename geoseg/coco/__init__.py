"""COCO instance JSON, in and out: outlines in the pixels of images, as polygons or run lengths."""

from geoseg.coco.dataset import Annotation, Coco, Image
from geoseg.coco.reading import is_coco, read_coco, read_results
from geoseg.coco.rle import Rle
from geoseg.coco.writing import coco_of, write_coco

__all__ = ["Annotation", "Coco", "Image", "Rle", "coco_of", "is_coco", "read_coco", "read_results", "write_coco"]
