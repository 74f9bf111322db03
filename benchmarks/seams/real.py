"""A real network over a real raster: tiled, against one window that holds all of it.

    python -m benchmarks.seams.real
    python -m benchmarks.seams.real --raster banepa_north --core 384 640 --halo 48 64 --overlay out/agreement.png

Footprints are matched one to one at IoU 0.5. The second comparison is of the one window with itself, begun some
pixels further into the raster: what the network makes of the same ground when nothing but its lattice of strides
has moved. No tiling can be told to do better than that.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from rasterio.windows import Window as RasterWindow
from rasterio.windows import transform as window_transform

import geoseg
from geoseg.evaluation.matching import Matches, match
from geoseg.overlay import preview

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "buildings"
SIZES_M2 = (0, 25, 60, 120, np.inf)
"""Square metres between the classes."""
SHIFT = 57
"""Pixels of the raster by which the one window is moved: no multiple of a stride of the network."""
WINDOW = 640 * 640
"""Pixels of the tile for which the network's limits on candidates were chosen."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two tables of footprints agree, in one class of sizes."""

    one: int
    """Footprints of the one."""
    other: int
    """Footprints of the other."""
    precision: float
    """Share of the one that the other has too."""
    recall: float
    """Share of the other that the one has too."""

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def one_window(raster: Path, model: Any) -> gpd.GeoDataFrame:
    """Footprints from a single tile. The network's limits per tile grow with it."""
    with rasterio.open(raster) as dataset:
        side = 2 * max(dataset.shape)  # of the raster; the grid of the model may be finer
        scale = max(dataset.width * dataset.height / WINDOW, 1.0)
    net = model.ready
    heads, rpn = net.roi_heads, net.rpn
    before = heads.detections_per_img, rpn._pre_nms_top_n, rpn._post_nms_top_n
    heads.detections_per_img = int(before[0] * scale)
    rpn._pre_nms_top_n, rpn._post_nms_top_n = (
        {phase: int(most * scale) for phase, most in limit.items()} for limit in before[1:]
    )
    try:
        return geoseg.extract(raster, model, tiling=geoseg.Tiling(core=side, halo=0))
    finally:
        heads.detections_per_img, rpn._pre_nms_top_n, rpn._post_nms_top_n = before


def shifted(raster: Path, folder: Path) -> Path:
    """The raster without its first rows and columns."""
    with rasterio.open(raster) as dataset:
        window = RasterWindow(SHIFT, SHIFT, dataset.width - SHIFT, dataset.height - SHIFT)
        profile = {**dataset.profile, "height": window.height, "width": window.width, "compress": "deflate"}
        profile = {
            key: value for key, value in profile.items() if key not in ("photometric", "blockxsize", "blockysize")
        }
        profile |= {"tiled": False, "transform": window_transform(window, dataset.transform)}
        with rasterio.open(folder / "shifted.tif", "w", **profile) as out:
            out.write(dataset.read(window=window))
    return folder / "shifted.tif"


def compared(one: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> tuple[Matches, list[Agreement]]:
    """Pairs, and the agreement: of all, then by size."""
    pairs = match(one.geometry.to_numpy(), other.geometry.to_numpy())
    found = np.isin(np.arange(len(one)), pairs.pred), np.isin(np.arange(len(other)), pairs.truth)
    sizes = [np.digitize(table["area_m2"], SIZES_M2) for table in (one, other)]
    rows = []
    for size in range(len(SIZES_M2)):  # 0: all
        a, b = (hit[(of == size) | (size == 0)] for hit, of in zip(found, sizes, strict=True))
        rows.append(Agreement(one=len(a), other=len(b), precision=float(a.mean()), recall=float(b.mean())))
    return pairs, rows


def show(title: str, pairs: Matches, rows: list[Agreement]) -> None:
    """One line for all, one for each class of sizes."""
    print(f"\n{title}: mean IoU of {len(pairs):,d} pairs {pairs.iou.mean():.3f}")
    print(f"{'m2':>12} {'tiled':>7} {'window':>7} {'precision':>10} {'recall':>7} {'F1':>7}")
    names = ["all", *(f"{low:.0f} - {high:.0f}" for low, high in pairwise(SIZES_M2))]
    for name, row in zip(names, rows, strict=True):
        print(
            f"{name:>12} {row.one:7,d} {row.other:7,d} {row.precision:10.3f} {row.recall:7.3f} {row.f1:7.3f}",
            flush=True,
        )


def differences(tiled: gpd.GeoDataFrame, window: gpd.GeoDataFrame, pairs: Matches) -> gpd.GeoDataFrame:
    """Everything that was found, labelled by who found it."""
    found, seen = np.isin(np.arange(len(tiled)), pairs.pred), np.isin(np.arange(len(window)), pairs.truth)
    both, alone, missed = tiled[found], tiled[~found], window[~seen]
    named = {"in both": both, "tiled alone": alone, "one window alone": missed}
    return gpd.GeoDataFrame(
        pd.concat([table.assign(label=name) for name, table in named.items()], ignore_index=True), crs=tiled.crs
    )


def main() -> None:
    """Print the tables, and draw the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raster", default="banepa", help="name of a raster of the shared data")
    parser.add_argument("--core", type=int, nargs="+", default=[512], help="pixels: one number, or rows and columns")
    parser.add_argument("--halo", type=int, nargs="+", default=[64], help="pixels, likewise")
    parser.add_argument("--overlay", type=Path, help="PNG to draw the differences into")
    parser.add_argument("--shift", action="store_true", help="also compare the one window with itself, moved")
    arguments = parser.parse_args()
    raster = REAL / f"{arguments.raster}.tif"
    if not raster.is_file():
        parser.exit(message=f"the real imagery ({raster}) is not here: skipped\n")
    core, halo = (sides[0] if len(sides) == 1 else tuple(sides) for sides in (arguments.core, arguments.halo))
    model = geoseg.load_model("buildings", device="cpu")
    tiled = geoseg.extract(raster, model, tiling=geoseg.Tiling(core=core, halo=halo))
    window = one_window(raster, model)
    pairs, rows = compared(tiled, window)
    show(f"{raster.name}, tiled {core} + {halo}, against one window", pairs, rows)
    if arguments.overlay:
        preview(raster, differences(tiled, window, pairs), arguments.overlay, max_side=2000)
    if arguments.shift:
        with tempfile.TemporaryDirectory() as folder:
            moved = one_window(shifted(raster, Path(folder)), model)
        seen = window[window.within(shapely.box(*moved.total_bounds))]
        show(f"one window moved by {SHIFT} px, against itself", *compared(moved, seen))


if __name__ == "__main__":
    main()
