"""Print what became of every true object, for geoseg and for others, on the same pieces.

python -m benchmarks.seams [--seeds 10] [--detector ragged] [--kinds]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict

from benchmarks.seams.detectors import Detector, perfect, ragged
from benchmarks.seams.masks import through_masks
from benchmarks.seams.merges import available
from benchmarks.seams.scenes import scene
from benchmarks.seams.score import VERDICTS, verdicts
from geoseg.tiling import Tiling

TILINGS = (
    Tiling(core=256, halo=16),
    Tiling(core=256, halo=32),
    Tiling(core=256, halo=64),
    Tiling(core=320, halo=128),
    Tiling(core=512, halo=16),
    Tiling(core=512, halo=64),
    Tiling(core=512, halo=256),
    Tiling(core=640, halo=128),
    Tiling(core=1024, halo=64),
    Tiling(core=(384, 640), halo=(48, 64)),
    Tiling(core=(700, 300), halo=(16, 100)),
)
EXACT = {"perfect": 0.99}
"""IoU above which an object counts as right; 0.5 for the other detectors."""

DETECTORS: dict[str, Detector] = {
    "perfect": perfect,
    "ragged": ragged,
    "ragged-pixels": lambda scene, plan, seed: through_masks(ragged(scene, plan, seed), plan, whole_pixels=True),
    "ragged-28x28": lambda scene, plan, seed: through_masks(ragged(scene, plan, seed), plan, whole_pixels=False),
}
"""By name on the command line."""

Tables = dict[str, dict[str, Counter[str]]]
"""By merge and kind of object: how many of each verdict."""


def measure(detector: str, seeds: range, names: list[str]) -> tuple[Tables, dict[str, float]]:
    """Verdicts, and CPU seconds, of each merge over all seeds and tilings."""
    tables: Tables = {name: defaultdict(Counter) for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for seed in seeds:
        for tiling in TILINGS:
            known = scene(seed, core=min(*tiling.core_yx, 512))
            plan = tiling.plan(known.area)
            seen = DETECTORS[detector](known, plan, seed)
            for name in names:
                start = time.process_time()
                geometry, labels = available()[name](seen, plan)
                seconds[name] += time.process_time() - start
                found = verdicts(known, geometry, labels, iou=EXACT.get(detector, 0.5))
                for kind, verdict in zip(known.kinds.tolist(), found.tolist(), strict=True):
                    tables[name][kind][verdict] += 1
    return tables, seconds


def show(tables: Tables, seconds: dict[str, float]) -> None:
    """One line for each merge."""
    print(f"{'':16}{'right %':>9}" + "".join(f"{verdict:>11}" for verdict in VERDICTS) + f"{'CPU s':>8}")
    for name, kinds in tables.items():
        total: Counter[str] = sum(kinds.values(), Counter())
        right = 100 * total["exact"] / total.total()
        counts = "".join(f"{total[verdict]:11,d}" for verdict in VERDICTS)
        print(f"{name:16}{right:9.2f}{counts}{seconds[name]:8.1f}")


def show_kinds(tables: Tables) -> None:
    """Right objects in percent, by kind."""
    kinds = sorted(next(iter(tables.values())))
    print(f"{'right %':16}" + "".join(f"{name[:15]:>16}" for name in tables))
    for kind in kinds:
        rates = [100 * table[kind]["exact"] / table[kind].total() for table in tables.values()]
        print(f"{kind:16}" + "".join(f"{rate:16.2f}" for rate in rates))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="scenes, each cut in eleven ways")
    parser.add_argument("--detector", choices=[*DETECTORS, "all"], default="all")
    parser.add_argument("--merges", nargs="*", default=list(available()), help="which merges")
    arguments = parser.parse_args()
    for detector in DETECTORS if arguments.detector == "all" else [arguments.detector]:
        tables, seconds = measure(detector, range(arguments.seeds), arguments.merges)
        objects = sum(table.total() for table in next(iter(tables.values())).values())
        print(f"\n{detector} detector: {objects:,} objects, right above IoU {EXACT.get(detector, 0.5)}")
        show(tables, seconds)
        show_kinds(tables)


if __name__ == "__main__":
    main()
