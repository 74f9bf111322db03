"""`geoseg models`: what is bundled."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from geoseg.cli.console import out, show


def models(
    as_json: Annotated[bool, typer.Option("--json", help="The model cards as one JSON array.")] = False,
) -> None:
    """List the bundled models."""
    from geoseg.detectors import bundled_models

    cards = bundled_models()
    if as_json:
        typer.echo(json.dumps([asdict(card) for card in cards], indent=2))
        return
    table = Table("name", "version", "classes", "GSD (m)", "tile (px)", "licence", "notes", box=None, pad_edge=False)
    for card in cards:
        gsd = "any" if card.gsd_m is None else f"{card.gsd_m:g}"
        tile = f"{card.core} + {card.halo}"
        table.add_row(card.name, card.version, ", ".join(card.classes), gsd, tile, card.licence, card.notes)
    show(table)
    out.print("Use one with: geoseg extract RASTER -o OUT.gpkg --model NAME (or the path of a weights file)")
