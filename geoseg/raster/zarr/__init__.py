"""Zarr arrays as rasters, v2 and v3, in a local folder. Their metadata are taken apart here, so that nothing in them is
obeyed that was not understood, and chunks are decoded by a few named codecs: see docs/inputs.md."""
