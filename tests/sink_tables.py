"""Tables that the sink tests write: the fixed schema, a user's own, and awkward ones."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

UTM = "EPSG:32645"
ORIGIN = (500_000.0, 3_060_000.0)
RUN = {
    "run": "20261121-abc",
    "raster": "straße 'x'.tif",
    "model": "buildings",
    "settings": {"tiling": {"core": 512}},
    "started": "2026-11-21T05:06:07.500+05:45",
    "exit_code": 0,
    "device": None,
    "folder": "latin-\udce9",  # a file name that is not UTF-8, as Python spells it
}


def footprints(n: int = 37, *, crs: str | None = UTM) -> gpd.GeoDataFrame:
    """``n`` footprints in the fixed schema; the first has a hole, the second is in two parts."""
    rng = np.random.default_rng(7)
    xy = rng.uniform(0, (3000, 900), (n, 2)) + ORIGIN
    size = rng.uniform(5, 40, (n, 2))
    shapes = shapely.box(xy[:, 0], xy[:, 1], xy[:, 0] + size[:, 0], xy[:, 1] + size[:, 1])
    if n > 1:
        shapes[0] = shapes[0].buffer(50).difference(shapes[0].buffer(20))
        shapes[1] = shapes[1].union(shapely.affinity.translate(shapes[1], 100, 60))
    label = np.where(np.arange(n) % 3 == 0, "ship", "building")
    acquired = [pd.Timestamp("2024-02-29T23:59:59.250Z") if i % 2 else pd.NaT for i in range(n)]
    return gpd.GeoDataFrame(
        {
            "id": pd.Series([f"f{i:04d}" for i in range(n)], dtype="str"),
            "label": pd.Series(label, dtype="str"),
            "score": np.where(np.arange(n) % 5 == 0, np.nan, rng.random(n)),
            "area_m2": shapely.area(shapes),
            "perimeter_m": shapely.length(shapes),
            "length_m": size.max(axis=1),
            "width_m": size.min(axis=1),
            "orientation_deg": rng.uniform(0, 180, n),
            "lon": rng.uniform(86, 88, n),
            "lat": rng.uniform(27, 28, n),
            "raster": pd.Series(["ortho.tif"] * n, dtype="str"),
            "acquired": pd.Series(acquired, dtype="datetime64[ms, UTC]"),
            "model": pd.Series(["buildings"] * n, dtype="str"),
            "model_version": pd.Series(["1"] * n, dtype="str"),
            "run": pd.Series(["20261121-abc"] * n, dtype="str"),
            "n_tiles": np.full(n, 2, np.int32),
            "agreement": np.full(n, np.nan),
            "cut_by_edge": np.arange(n) % 7 == 0,
        },
        geometry=shapes,
        crs=crs,
    )


def gaps(n: int = 2, *, crs: str | None = UTM) -> gpd.GeoDataFrame:
    x = ORIGIN[0] + 400.0 * np.arange(n)
    shapes = shapely.box(x, ORIGIN[1], x + 300, ORIGIN[1] + 120)
    return gpd.GeoDataFrame(
        {
            "reason": pd.Series((["nodata", "unreadable"] * n)[:n], dtype="str"),
            "detail": pd.Series(['LZW: <bad> & "code"'] * n, dtype="str"),
            "area_m2": np.full(n, 36_000.0),
        },
        geometry=shapes,
        crs=crs,
    )
