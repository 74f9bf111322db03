"""The files that a raster is made of, each looked at before any is read: itself, its mask file, a mosaic's sources."""

from __future__ import annotations

import math
import os

import numpy as np
from rasterio.dtypes import in_dtype_range
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader

from geoseg.errors import RasterError
from geoseg.raster.access import Access, is_remote, is_tiff, one_line, open_dataset
from geoseg.raster.missing import suspicious_end
from geoseg.raster.vrt import Mosaic, check_extent

_INNER = 256
"""Most images that are looked at in one TIFF. A COG has some 20: overviews, and masks of them."""


def check_size(dataset: DatasetReader, access: Access, name: str) -> None:
    """Refuse a raster that is too big, or decodes too much at once.

    Raises:
        RasterError: beyond the limits of ``access``.
    """
    pixels = dataset.height * dataset.width
    if pixels > access.max_pixels:
        raise RasterError(
            f"{name} with {dataset.height} x {dataset.width} pixels",
            allowed=f"up to {access.max_pixels} pixels",
            remedy="Raise raster.max_pixels if it is meant to be so big",
        )
    rows, cols = dataset.block_shapes[0]
    together = dataset.count if str(getattr(dataset.interleaving, "value", "")).lower() == "pixel" else 1
    kind = dataset.dtypes[0]
    # Radar's pairs of int16, which NumPy has no type for.
    cost = rows * cols * together * (4 if kind == "complex_int16" else np.dtype(kind).itemsize)
    if cost > access.max_block_bytes:
        raise RasterError(
            f"{name} stored in blocks of {rows} x {cols} pixels, {cost} bytes each once decoded",
            allowed=f"blocks of up to {access.max_block_bytes} bytes",
            remedy="Convert it with: gdal_translate -of COG in.tif out.tif, or raise raster.max_block_bytes",
        )


def check_inner(dataset: DatasetReader, access: Access, name: str) -> None:
    """Refuse a local TIFF with too much to decode in its masks and overviews, which are read unasked.

    Raises:
        RasterError: beyond the limits of ``access``, or too many images.
    """
    if dataset.driver != "GTiff" or is_remote(name):
        return
    for number in range(2, _INNER + 2):
        try:
            inner = open_dataset(f"GTIFF_DIR:{number}:{name}", "GTiff")
        except RasterError as error:
            if one_line(error).endswith(f"Requested directory {number} not found."):
                return
            continue  # what GDAL cannot open is no mask or overview either
        with inner:
            check_size(inner, access, f"{name} with its image {number} (a mask or an overview)")
    raise RasterError(
        f"{name} with more than {_INNER} images in it",
        allowed="one raster with its mask and overviews",
        remedy="Write the one you mean to a file of its own with gdal_translate",
    )


def mask_file_of(name: str, dataset: DatasetReader, access: Access) -> str | None:
    """A GDAL mask file (``name.msk``), used only where it is a TIFF and the raster has no mask of its own.

    Raises:
        RasterError: it is no TIFF, of another size than the raster, has several bands, or is beyond ``access``.
    """
    path = name + ".msk"
    if is_remote(name) or not os.path.isfile(path) or has_own_mask(dataset):
        return None
    if not is_tiff(path):
        raise RasterError(
            f"{name} with a mask file {os.path.basename(path)} that is not a TIFF",
            allowed="a GDAL mask file, which is a TIFF",
            remedy="Delete or rename the .msk file",
        )
    with open_dataset(path, "GTiff") as mask:
        if (mask.count, *mask.shape) != (1, *dataset.shape):
            raise RasterError(
                f"{name}: {dataset.shape} and a mask file of {mask.shape} with {mask.count} band(s)",
                allowed="a mask of the raster's size, one for all bands",
                remedy="Delete or rename the .msk file",
            )
        check_size(mask, access, path)
    return path


def has_own_mask(dataset: DatasetReader) -> bool:
    """Whether a mask, or alpha, is part of the file."""
    return MaskFlags.per_dataset in dataset.mask_flag_enums[0]


def bits_of(dataset: DatasetReader, name: str) -> int | None:
    """How many bits a TIFF or JPEG 2000 says its numbers use; None: all of their type's.

    Raises:
        RasterError: one, which is no imagery.
    """
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if bits == "1":
        raise RasterError(
            f"{name} with 1-bit pixels",
            allowed="8-bit, 16-bit, 32-bit or float imagery",
            remedy="Use the original",
        )
    return int(bits) if bits else None


def checked_sources(
    name: str, mosaic: Mosaic, dataset: DatasetReader, access: Access, *, has_mask: bool
) -> tuple[tuple[str, ...], int | None]:
    """Refuse sources that cost too much, have changed since, or whose masks or nodata are left out; warn of those never
    written to their end.

    Returns:
        Warnings, and the fewest bits of numbers in a source, which a mosaic does not tell (None: all of their type's).

    Raises:
        RasterError: a source is refused.
    """
    told, bits, plain = [], [], not has_mask and MaskFlags.all_valid in dataset.mask_flag_enums[0]
    if plain and any(_may_hold(dataset, value) for value in mosaic.holes):
        raise _left_out(f"{name}, whose sources have nodata or masks of their own, which it turns into black")
    for path in mosaic.sources:
        with open_dataset(path, "GTiff") as part:
            check_size(part, access, path)
            check_extent(mosaic, path, part.width, part.height)
            check_inner(part, access, path)
            if not has_mask and mask_file_of(path, part, access):
                raise RasterError(
                    f"{path}, a source of the mosaic, with a mask file beside it (.msk), which would be left out",
                    allowed="sources with their masks inside, or a mask file for the whole mosaic",
                    remedy="Put it inside with gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES, and build the "
                    "mosaic of what that gives; or delete the .msk file",
                )
            flags = part.mask_flag_enums[0]
            # Alpha is a band, which a mosaic leaves out on purpose.
            if plain and MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
                raise _left_out(f"{path}, a source of the mosaic, with a mask inside, which the mosaic leaves out")
            if plain and MaskFlags.nodata in flags and not math.isnan(part.nodata):
                raise _left_out(f"{path}, a source of the mosaic, with a nodata value, which the mosaic leaves out")
            bits += [bits_of(part, path)]
            if plain and written_end(part, path) is not None:
                told.append(
                    f"{path}, a source of the mosaic, ends in zeros that look never written: they are examined as "
                    "black imagery, and nothing will be found there; copy it again"
                )
    return tuple(told), min(filter(None, bits), default=None)


def _may_hold(dataset: DatasetReader, hole: str) -> bool:
    """Whether one of :attr:`Mosaic.holes` may leave out anything: no 8-bit pixel is -9999, whatever states it."""
    try:
        return bool(in_dtype_range(float(hole), dataset.dtypes[0]))
    except ValueError:  # "mask"
        return True


def _left_out(got: str) -> RasterError:
    return RasterError(
        got,
        allowed="a mosaic with a mask, a nodata value or alpha, or sources without any",
        remedy="Build it with gdalbuildvrt, which takes them along (alpha not with -b, masks not with -separate, "
        "nodata not with -hidenodata); -vrtnodata states a nodata value",
    )


def written_end(dataset: DatasetReader, name: str) -> int | None:
    """Where a local TIFF looks as if it was never written to its end; None where nothing is suspected."""
    return suspicious_end(dataset, name) if dataset.driver == "GTiff" and not is_remote(name) else None
