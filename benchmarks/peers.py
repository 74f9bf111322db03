"""From a GeoTIFF to outlines: geoseg and its peers, with the same weights, tiles and threshold.

    OMP_NUM_THREADS=1 python -m benchmarks.peers [--model buildings] [--size 1700 2000] [--only NAME ...]
    python -m benchmarks.peers --device cuda

A generated town, never seen in training, is the ground. Each contestant runs in a process of its own, one after the
other: seconds (of the CPU, and by the clock) are those from the file to outlines, after the model was loaded; memory is
the process's high-water mark (VmHWM, Linux), and what of it came on top of the loaded model. An object is right if
an outline covers it one to one with an IoU of at least 0.5. All run on the device that is asked for; memory is that of
the host.

Peers are given what suits them: torchvision's enlarging of tiles to 800 pixels is off, sahi does not look at the whole
image once more, geoai keeps what touches the raster's edge. Merging and thresholds of it are their defaults. Peers that
are not installed are left out: pip install 'geoseg[peers]', and geoai-py in an environment of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

import geoseg
from geoseg.detectors import model_card
from geoseg.evaluation.matching import match
from geoseg.scenes import town

SEED = 987_655
ORIGIN = Affine.translation(400_000, 5_000_000)
Run = Callable[[], NDArray[Any]]
"""From the file to outlines in its pixels, ``(n,)`` polygons."""


def ours(model: str, raster: Path, device: str) -> Run:
    """geoseg on a device."""
    detector = geoseg.load_model(model, device=device)

    def run() -> NDArray[Any]:
        return in_pixels(geoseg.extract(raster, detector).geometry, raster)

    return run


def on_openvino(model: str, raster: Path, device: str) -> Run:
    """geoseg with OpenVINO, which has CPUs only."""
    return ours(model, raster, "openvino")


def in_pixels(geometry: Any, raster: Path) -> NDArray[Any]:
    """Outlines in world coordinates, in the pixels of their raster."""
    with rasterio.open(raster) as source:
        back = ~source.transform
    linear = np.array([[back.a, back.b], [back.d, back.e]])
    offset = np.array([back.c, back.f])
    return shapely.transform(np.asarray(geometry), lambda xy: xy @ linear.T + offset)


def plain(model: str, device: str) -> tuple[Any, geoseg.ModelCard, int]:
    """torchvision's network with these weights, on its device; its card, and the side of a tile."""
    from benchmarks.contestants import plain_network

    detector: Any = geoseg.load_model(model, device=device)
    card, net = detector.card, plain_network(detector)
    side = card.core + 2 * card.halo
    net.transform.min_size, net.transform.max_size = (side,), side
    return net, card, side


def sahi(model: str, raster: Path, device: str) -> Run:
    """sahi's sliced prediction around its own wrapper of torchvision models; GREEDYNMM."""
    from sahi.models.torchvision import TorchVisionDetectionModel
    from sahi.predict import get_sliced_prediction

    net, card, side = plain(model, device)
    names = {str(i): name for i, name in enumerate(("background", *card.classes))}
    wrapper: Any = TorchVisionDetectionModel(
        model=net, confidence_threshold=card.score_threshold, device=device, category_mapping=names
    )

    def run() -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            result = get_sliced_prediction(
                pixels(raster),
                wrapper,
                slice_height=side,
                slice_width=side,
                overlap_height_ratio=2 * card.halo / side,
                overlap_width_ratio=2 * card.halo / side,
                perform_standard_pred=False,
                verbose=0,
            )
        rings = [each.mask.segmentation for each in result.object_prediction_list if each.mask]
        return polygons([[np.reshape(ring, (-1, 2)) for ring in parts] for parts in rings])

    return run


def supervision(model: str, raster: Path, device: str) -> Run:
    """supervision's InferenceSlicer with torchvision in its callback; NMS, masks as planes."""
    import supervision as sv
    import torch

    net, card, side = plain(model, device)

    @torch.inference_mode()
    def look(image: NDArray[np.uint8]) -> Any:
        chip = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(device)
        [out] = net([chip.float() / 255])
        sure = out["scores"] >= card.score_threshold
        return sv.Detections(
            xyxy=out["boxes"][sure].cpu().numpy(),
            confidence=out["scores"][sure].cpu().numpy(),
            class_id=out["labels"][sure].cpu().numpy(),
            mask=(out["masks"][sure, 0] > 0.5).cpu().numpy(),
        )

    slicer = sv.InferenceSlicer(callback=look, slice_wh=side, overlap_wh=2 * card.halo)

    def run() -> NDArray[Any]:
        found = slicer(pixels(raster))
        return polygons([sv.mask_to_polygons(mask) for mask in found.mask]) if len(found) else polygons([])

    return run


def geoai(model: str, raster: Path, device: str) -> Run:
    """geoai's ObjectDetector."""
    import torch
    from geoai.extract import ObjectDetector

    net, card, side = plain(model, device)
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(net.state_dict(), file.name)
        detector = ObjectDetector(model_path=file.name, model=net, device=device)

    def run() -> NDArray[Any]:
        with torch.inference_mode():
            found = detector.process_raster(
                str(raster),
                batch_size=1,
                filter_edges=False,
                chip_size=(side, side),
                overlap=2 * card.halo / side,
                confidence_threshold=card.score_threshold,
            )
        return in_pixels(found.geometry, raster) if found is not None and len(found) else polygons([])

    return run


CONTESTANTS: dict[str, tuple[str, Callable[[str, Path, str], Run]]] = {
    "geoseg": ("torch", ours),
    "geoseg, openvino": ("openvino", on_openvino),
    "sahi": ("sahi", sahi),
    "supervision": ("supervision", supervision),
    "geoai": ("geoai", geoai),
}
"""What must be installed, and who runs a model on a raster on a device, by name."""


def pixels(raster: Path) -> NDArray[np.uint8]:
    """``(rows, columns, 3)``, as peers want them."""
    with rasterio.open(raster) as source:
        image: NDArray[np.uint8] = source.read((1, 2, 3))
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def polygons(objects: list[Any]) -> NDArray[Any]:
    """One valid geometry per list of rings, each ``(points, 2)``."""
    made = [shapely.union_all([shapely.Polygon(ring) for ring in parts if len(ring) > 2]) for parts in objects]
    out = np.empty(len(made), object)
    out[:] = made
    return out


def peak() -> float:
    """The high-water mark of this process, MiB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def one(name: str, model: str, device: str, folder: Path) -> None:
    """Run a contestant in this process; its outlines and figures go into the folder."""
    run = CONTESTANTS[name][1](model, folder / "town.tif", device)
    before, wall, cpu = peak(), time.monotonic(), time.process_time()
    found = run()
    figures = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu, "peak": peak(), "before": before}
    kept = [shapely.to_wkb(each, hex=True) for each in shapely.make_valid(found) if each is not None]
    (folder / "found.json").write_text(json.dumps({**figures, "found": kept}))


def ground(folder: Path, size: tuple[int, int], gsd_m: float) -> NDArray[Any]:
    """Paint the town, and give its true outlines in pixels."""
    scene = town(SEED, height=size[0], width=size[1], gsd_m=gsd_m)
    with rasterio.open(
        folder / "town.tif", "w", driver="GTiff", count=3, height=size[0], width=size[1], dtype="uint8",
        crs="EPSG:32633", transform=ORIGIN @ Affine.scale(gsd_m, -gsd_m), photometric="RGB", tiled=True,
        blockxsize=512, blockysize=512, compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(scene.pixels)
    return np.array(scene.polygons, object)


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N: of all that run")
    parser.add_argument("--size", type=int, nargs=2, default=(1700, 2000), help="rows and columns of the town")
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        one(asked.run, asked.model, asked.device, asked.folder)
        return
    with tempfile.TemporaryDirectory(prefix="geoseg-") as place:
        folder = Path(place)
        truth = ground(folder, tuple(asked.size), model_card(asked.model).gsd_m or 0.25)
        rows, columns = asked.size
        print(f"{asked.model} on {asked.device}, a town of {rows:,} x {columns:,} px, {len(truth):,} objects\n")
        print("| | CPU s | clock s | peak MiB | on top of the model | outlines | right | F1 |\n|---|" + "---|" * 7)
        for name in asked.only:
            if name == "geoseg, openvino" and asked.device != "cpu":
                continue
            if importlib.util.find_spec(CONTESTANTS[name][0]) is None:
                print(f"| {name} | not installed |", flush=True)
                continue
            own = [sys.executable, "-m", "benchmarks.peers", "--run", name, "--model", asked.model]
            code = subprocess.run([*own, "--device", asked.device, "--folder", place], stdout=sys.stderr).returncode
            if code:
                print(f"| {name} | ended with {code} (-9: killed, as for memory) |", flush=True)
                continue
            told = json.loads((folder / "found.json").read_text())
            found = np.array([shapely.from_wkb(each) for each in told["found"]], object)
            right = len(match(found, truth))
            f1 = 2 * right / max(len(found) + len(truth), 1)
            print(
                f"| {name} | {told['cpu']:.1f} | {told['wall']:.1f} | {told['peak']:.0f} | "
                f"{told['peak'] - told['before']:.0f} | {len(found)} | {right} | {f1:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
