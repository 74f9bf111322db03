"""`geoseg status`: how far a run over an archive is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from geoseg.cli.console import Verbose, flag, start
from geoseg.cli.options import RunFolder
from geoseg.durations import duration

if TYPE_CHECKING:
    from geoseg.archive import Status

_STATES = {
    "running": "running",
    "suspended": "suspended: its process is stopped (Ctrl-Z, a batch system), and goes on with fg or SIGCONT",
    "ended": "ended",
    "interrupted": "interrupted: the same command goes on from here",
    "stopped": "stopped: the same command goes on from here",
    "killed": "killed, or its machine went down: the same command goes on from here",
}


def status(
    folder: RunFolder,
    as_json: Annotated[bool, flag("--json", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Say how far a run is: while it goes on, after it, and after a crash."""
    start(verbose=verbose)
    from geoseg.archive import archive_status

    found = archive_status(folder)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2, default=str))
    else:
        _tell(found)


def _tell(found: Status) -> None:
    from geoseg.archive.names import plain

    typer.echo(f"{found.folder}: {_STATES[found.state]}")
    ended = f", ended {found.ended}" if found.ended else ""
    code = "" if found.exit_code is None else f", exit code {found.exit_code}"
    if not found.started:
        typer.echo("scenes     being looked for")
        return
    typer.echo(f"started    {found.started}{ended}{code}")
    typer.echo(f"model      {found.model}")
    if found.stopped:
        typer.echo(f"stopped    {found.stopped}")
    counts = ", ".join(f"{number:,} {state}" for state, number in found.counts.items()) or "none"
    typer.echo(f"scenes     {found.scenes:,}: {counts} ({found.unchanged:,} unchanged)")
    earlier = f" ({found.earlier:,} of them of earlier settings, to be done anew)" if found.earlier else ""
    typer.echo(f"footprints {found.footprints:,}{earlier}")
    for scene in found.running:
        tiles = f", {scene['tiles_done']:,} of {scene['tiles']:,} tiles" if scene["tiles"] else ""
        typer.echo(f"  at work: {plain(scene['name'])} ({scene['seconds']:.0f} s{tiles})")
    for scene in found.failed:
        typer.echo(f"  {scene['state']}: {plain(scene['name'])}: {plain(str(scene['error']))}")
    if found.state == "running":
        typer.echo(f"left       {found.left:,}" + (f", {duration(found.eta_s)} to go" if found.eta_s else ""))
