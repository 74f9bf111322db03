"""`geoseg extract`: the main job, a raster in and footprints out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, log, start
from geoseg.cli.exits import PARTS_MISSING
from geoseg.cli.lock import output_lock
from geoseg.cli.options import parse_bands, parse_range, settings_with
from geoseg.cli.progress import progress

if TYPE_CHECKING:
    from geoseg.config import Settings


def extract(
    raster: Annotated[str, typer.Argument(help="The raster.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .gpkg, .parquet, .fgb or .geojson.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Bundled model (see `geoseg models`) or weights file.")
    ],
    aoi: Annotated[
        str | None, typer.Option(help="Only this area: a vector file, or w,s,e,n in degrees.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings (TOML); options here win over it.")] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Drop what scores less, 0 to 1.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    core: Annotated[int | None, typer.Option(help="Side of a tile's core, in pixels the model sees.")] = None,
    halo: Annotated[int | None, typer.Option(help="Rim around the core, in the same pixels.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads when run in this process.")] = None,
    assume_crs: Annotated[str | None, typer.Option(help="CRS of a raster that states none.")] = None,
    bands: Annotated[str | None, typer.Option(help="Which band is which: red=3,green=2,blue=1.")] = None,
    scaling: Annotated[
        str | None, typer.Option(help="Raster values that become 0 and 255: LOW,HIGH.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an output that looks open elsewhere.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Also write the run's report, as JSON.")] = None,
    log_format: LogFormatOption = LogFormat.text,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Find the objects of a raster and write their footprints."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    overrides = {
        "tiling": {"core": core, "halo": halo},
        "detect": {"score_threshold": score_threshold, "device": device},
        "raster": {"assume_crs": assume_crs, "bands": parse_bands(bands), "scaling": parse_scaling(scaling, stretch)},
        "engine": {"scheduler": scheduler, "workers": workers},
    }
    settings = settings_with(config, overrides)
    from geoseg.detectors import load_model
    from geoseg.extraction import run
    from geoseg.sinks import check_suffix, write

    check_suffix(output)
    with _stoppable(), output_lock(output):
        detector = load_model(model, settings.detect.device)
        if dry_run:
            _describe(Job.of(raster, detector, aoi=aoi, tiling=None, settings=settings), output)
            return
        with progress(quiet=quiet, plain=log_format is LogFormat.json) as advance:
            done = run(raster, detector, aoi=aoi, settings=settings, progress=advance)
        write(done.footprints, output, gaps=done.gaps, run=done.report.as_dict(), force=force)
        if report:
            _write_report(done.report, output, report)
    _summarise(done.report, output)
    raise typer.Exit(done.report.exit_code)
