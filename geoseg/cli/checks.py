"""What `geoseg doctor` looks at: one small function per kind of trouble.

A broken native library can take its process down, so torch and GDAL are tried in processes of their own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geoseg.errors import in_a_line

Status = Literal["ok", "warn", "broken"]

_PACKAGES = (
    "numpy",
    "rasterio",
    "geopandas",
    "shapely",
    "pyproj",
    "pyogrio",
    "pyarrow",
    "dask",
    "distributed",
)

_TORCH = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
found["gpus"] = []
try:
    import torchvision
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    found["torchvision"], found["nms"] = torchvision.__version__, kept.tolist() == [0]
except Exception as error:
    found["torchvision_error"] = f"{type(error).__name__}: {error}"
try:
    for i in range(torch.cuda.device_count()):
        torch.ones(8, device=f"cuda:{i}").sum().item()
        p = torch.cuda.get_device_properties(i)
        found["gpus"].append(f"{p.name}, {p.total_memory / 2**30:.0f} GiB")
except Exception as error:
    found["gpu_error"] = str(error).splitlines()[0]
print(json.dumps(found))
"""

_GDAL = """
import json, sys, numpy, pyogrio, rasterio, geopandas, shapely
from pathlib import Path
from rasterio.warp import transform
folder = Path(sys.argv[1])
found = {"gdal": rasterio.__gdal_version__, "gdal_vector": pyogrio.__gdal_version_string__}
pixels = numpy.arange(3 * 40 * 56, dtype="uint8").reshape(3, 40, 56)
for compress in ("deflate", "lzw", "jpeg", "zstd"):
    path = folder / f"{compress}.tif"
    options = dict(driver="GTiff", height=40, width=56, count=3, dtype="uint8", crs="EPSG:32645")
    corner = rasterio.Affine(0.5, 0, 300000, 0, -0.5, 3000000)
    with rasterio.open(path, "w", **options, compress=compress, transform=corner) as out:
        out.write(pixels)
    with rasterio.open(path) as back:
        same = back.crs.to_epsg() == 32645 and (compress == "jpeg" or bool((back.read() == pixels).all()))
    if not same:
        raise RuntimeError(f"a {compress} GeoTIFF does not come back as it was written")
x, y = transform("EPSG:32645", "EPSG:4326", [300000.0], [3000000.0])
if abs(x[0] - 84.98) > 0.1 or abs(y[0] - 27.11) > 0.1:
    raise RuntimeError(f"GDAL's PROJ puts a known place at {x[0]:.2f}, {y[0]:.2f}")
table = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32645)
table.to_file(folder / "a.gpkg", layer="a", driver="GPKG")
table.to_parquet(folder / "a.parquet")
if len(geopandas.read_file(folder / "a.gpkg")) + len(geopandas.read_parquet(folder / "a.parquet")) != 2:
    raise RuntimeError("a GeoPackage or GeoParquet does not come back as it was written")
print(json.dumps(found))
"""

# Each public name is loaded on first use: a package that is there but of a wrong version shows only then.
_PARTS = """
import geoseg
for name in geoseg.__all__:
    getattr(geoseg, name)
print("{}")
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    """What."""
    status: Status
    """``ok``; ``warn``: geoseg works, with a drawback; ``broken``: it does not."""
    found: str
    """What was found, in one line."""
    remedy: str = ""
    """What to do about it; empty where nothing needs doing."""


def all_checks() -> Iterator[Check]:
    """Every check, each made when it is asked for."""
    yield from _python()
    yield from _torch()
    yield from _gdal()
    yield from _proj()
    yield _parts()
    yield from _models()
    yield from _machine()


def _python() -> Iterator[Check]:
    version = platform.python_version()
    fine = sys.version_info >= (3, 11)
    yield Check(
        name="python",
        status="ok" if fine else "broken",
        found=f"{version} on {platform.platform(terse=True)}, {platform.machine()}",
        remedy="" if fine else "Use Python 3.11 or newer",
    )
    versions = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    yield Check(
        name="packages",
        status="broken" if missing else "ok",
        found=f"missing: {', '.join(missing)}" if missing else ", ".join(f"{k} {v}" for k, v in versions.items()),
        remedy="Install geoseg again, e.g. `make setup`" if missing else "",
    )


def _torch() -> Iterator[Check]:
    found, error = _probe(_TORCH)
    if found is None:
        yield Check(
            name="torch",
            status="broken",
            found=error,
            remedy="Install torch again; on an old CPU or a slim system choose the CPU build",
        )
        return
    yield Check(name="torch", status="ok", found=f"{found['version']}, {found['threads']} threads")
    yield _pairing(found)
    yield _gpu(found)


def _pairing(found: dict[str, Any]) -> Check:
    """Whether torchvision's own operators work with this torch."""
    trouble = found.get("torchvision_error") or ("" if found.get("nms") else "its nms gives wrong answers")
    if not trouble:
        return Check(name="torchvision", status="ok", found=f"{found['torchvision']}, its operators work")
    installed = f"torch {found['version']} and torchvision {_version('torchvision') or 'not installed'}"
    return Check(
        name="torchvision",
        status="broken",
        found=f"{installed} do not fit together ({trouble.splitlines()[0]})",
        # The classic: a CPU-only torch from one index, and torchvision built for CUDA from another.
        remedy="Uninstall both, then install both in one command from one index (both CPU or both CUDA)",
    )


def _gpu(found: dict[str, Any]) -> Check:
    if "gpu_error" in found:
        return Check(
            name="gpu",
            status="warn",
            found=f"a GPU that torch cannot use ({found['gpu_error']})",
            remedy="Install a torch built for this GPU and driver, or run with --device cpu",
        )
    if found["gpus"]:
        return Check(name="gpu", status="ok", found="; ".join(found["gpus"]) + f" (CUDA {found['cuda']})")
    if shutil.which("nvidia-smi"):
        why = "torch is built for the CPU only" if found["cuda"] is None else "torch sees none"
        return Check(
            name="gpu",
            status="warn",
            found=f"nvidia-smi is there, but {why}",
            remedy="Install CUDA builds of torch and torchvision together; check the driver with nvidia-smi",
        )
    return Check(name="gpu", status="ok", found="none: the network runs on the CPU")


def _gdal() -> Iterator[Check]:
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        found, error = _probe(_GDAL, folder)
    if found is not None:
        text = f"{found['gdal']} for rasters, {found['gdal_vector']} for vectors: written and read back"
        yield Check(name="gdal", status="ok", found=text)
        return
    remedy = "Reinstall rasterio, pyogrio and geopandas from their wheels"
    # Another installation's data, where GDAL looks first; rasterio 1.4.0 says only that it cannot read a CRS.
    if ("proj" in error.lower() or "CRSError" in error) and _strangers():
        remedy = f"Unset {' and '.join(_strangers())}"
    if "libexpat" in error:
        remedy = "Install the system's expat library (Debian, Ubuntu: apt-get install libexpat1)"
    yield Check(name="gdal", status="broken", found=error, remedy=remedy)


def _proj() -> Iterator[Check]:
    strangers = _strangers()
    try:
        import pyproj

        x, y = pyproj.Transformer.from_crs(4326, 32645, always_xy=True).transform(87.0, 0.0)
        if abs(x - 500_000) > 0.01 or abs(y) > 0.01:
            raise ValueError(f"PROJ puts a known place at {x:.1f}, {y:.1f}")
    except Exception as error:
        yield Check(
            name="proj",
            status="broken",
            found=in_a_line(error),
            remedy=f"Unset {' and '.join(strangers)}" if strangers else "Reinstall pyproj",
        )
        return
    yield Check(
        name="proj",
        status="warn" if strangers else "ok",
        found=f"{pyproj.proj_version_str}, data at {pyproj.datadir.get_data_dir()}"
        + (f"; {', '.join(strangers)} set" if strangers else ""),
        remedy=f"Unset {' and '.join(strangers)} if coordinates look wrong" if strangers else "",
    )


def _strangers() -> list[str]:
    """Variables that lead GDAL and PROJ to data of another installation."""
    return [name for name in ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH") if os.environ.get(name)]


def _parts() -> Check:
    """Whether the packages that are there are ones that geoseg can be loaded with."""
    found, error = _probe(_PARTS)
    return Check(
        name="geoseg",
        status="broken" if found is None else "ok",
        found=error if found is None else f"{_version('geoseg') or 'not installed'}, all of its parts load",
        remedy="Install geoseg again with what it needs; `python -m pip check` names what does not fit"
        if error
        else "",
    )


def _models() -> Iterator[Check]:
    try:
        from geoseg.detectors import bundled_models

        names = [f"{card.name} {card.version}" for card in bundled_models()]
    except Exception as error:
        yield Check(name="models", status="broken", found=in_a_line(error), remedy="Install geoseg again")
        return
    yield Check(
        name="models",
        status="ok" if names else "warn",
        found=", ".join(names) or "no bundled models",
        remedy="" if names else "Pass a weights file: --model FILE.safetensors",
    )


def _machine() -> Iterator[Check]:
    from geoseg.cpus import usable_cpus

    cpus = usable_cpus()
    limit = os.environ.get("OMP_NUM_THREADS")
    yield Check(
        name="threads",
        status="ok",
        found=f"{cpus} CPUs for this process" + (f", OMP_NUM_THREADS={limit}" if limit else ""),
    )
    for name, folder in (("disk", Path.cwd()), ("temporary disk", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 2**30
        writable = os.access(folder, os.W_OK)
        status: Status = "broken" if free < 0.1 and name != "disk" else "warn" if free < 2 or not writable else "ok"
        yield Check(
            name=name,
            status=status,
            found=f"{free:.1f} GiB free in {folder}" + ("" if writable else ", which is read-only"),
            remedy="" if status == "ok" else "Make room, or write elsewhere (TMPDIR moves temporary files)",
        )


def _probe(code: str, *arguments: str) -> tuple[dict[str, Any] | None, str]:
    """What a script printed as JSON in a process of its own; or None and the last line of its complaint."""
    command = [sys.executable, "-c", code, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout.strip().splitlines()[-1]), ""
    except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
        return None, in_a_line(error)
    if done.returncode < 0:
        return None, f"the process was killed by signal {-done.returncode}"
    return None, in_a_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
