"""The flow that the scheduled pipelines share: every raster of a folder through one model, each done once."""

from __future__ import annotations

import argparse
import atexit
import glob
import logging
import sys
from pathlib import Path

import geoseg
from geoseg.signals import stoppable

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".zarr")
"""Of rasters, in whatever case."""


def flow(model: str, description: str) -> int:
    """Extract from each raster that is new or changed, or has parts missing; returns the exit code of the run.

    What is there already is told by content, model and settings. A crash costs one raster, not the night; a second flow
    on the same outputs ends at once with 3. OUTPUTS/summary.html says what became of each raster, and `geoseg status
    OUTPUTS` how far a flow is.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rasters", type=Path, help="folder of rasters")
    parser.add_argument("outputs", type=Path, help="folder of the run: outputs, manifest and summary")
    parser.add_argument("--model", default=model, help="name from `geoseg models`, or a weights file")
    parser.add_argument("--settings", type=Path, help="settings of a run (TOML), as `geoseg extract --config` takes")
    parser.add_argument("--aoi", help="only this area: a vector file, w,s,e,n in degrees, or WKT")
    parser.add_argument("--merged", help="also one layer over all rasters: a file (.gpkg, ...) or a folder of parts")
    parser.add_argument("--scheduler", help="do the work on a Dask cluster: tcp://host:8786")
    options = parser.parse_args()
    atexit.register(drop_unwritten)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pyogrio").setLevel(logging.WARNING)  # "Created 0 records", of each layer without rows
    try:
        with stoppable():
            done = geoseg.run_archive(configured(options), scheduler=options.scheduler)
    except (Exception, KeyboardInterrupt) as error:  # Python's own exit code for any of them is 1, which means done
        code = geoseg.errors.exit_code(error)
        said = error if isinstance(error, geoseg.GeosegError) else repr(error)
        if isinstance(error, KeyboardInterrupt):
            said = "interrupted: the same command goes on from here"
        logging.error("%s", said, exc_info=code == 70)
        return code
    if done.stopped:
        logging.error("stopped: %s", done.stopped)
    said = ", ".join(f"{number} {state}" for state, number in done.counts.items()) or "nothing to do"
    # Logged, not printed: a name that the encoding does not have, or a log that nobody reads, is no end of the flow.
    logging.info(f"{said} ({done.unchanged} unchanged); {done.footprints} footprints; {done.folder}/summary.html")
    return done.exit_code


def drop_unwritten() -> None:
    """What a full disk did not take is no reason for Python to end with 120, in place of the run's exit code."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, None)


def configured(options: argparse.Namespace) -> geoseg.RunConfig:
    """The run over an archive that the options ask for."""
    settings = geoseg.read_settings(options.settings) if options.settings else geoseg.Settings()
    archive = {"model": str(options.model), "folder": str(options.outputs), "name": "{name}"}
    return geoseg.RunConfig.model_validate(
        {
            **settings.model_dump(),
            "archive": archive | ({"aoi": options.aoi} if options.aoi else {}),
            "input": {"globs": patterns(options.rasters)},
            "merge": {"output": options.merged} if options.merged else {},
        }
    )


def patterns(folder: Path) -> list[str]:
    """One for each way in which the suffix of a raster is written in a folder; one that finds nothing where there is
    none, so that a folder that is empty, or not there, is told as such."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    files = [path for path in inside if path.is_file() or path.suffix.lower() == ".zarr"]  # which is a folder
    found = sorted({path.suffix for path in files if path.suffix.lower() in SUFFIXES})
    if files and not found:
        logging.warning("none of the %d files in %s has the name of a raster: %s", len(files), folder, SUFFIXES)
    return [str(Path(glob.escape(str(folder))) / f"*{suffix}") for suffix in found or SUFFIXES[:1]]
