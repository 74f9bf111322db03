"""The seam benchmark: known objects, tiled detectors with known faults, and what each merge makes of them."""
