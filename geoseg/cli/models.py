"""`geoseg models`: what there is, and `add` and `export`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geoseg.cli.console import Verbose, flag, log, out, show, start

models = typer.Typer(invoke_without_command=True)


@models.callback()
def _list(
    context: typer.Context,
    as_json: Annotated[bool, flag("--json", help="Print the whole cards, as one JSON array.")] = False,
    verbose: Verbose = False,
) -> None:
    """List the models that have names: the bundled ones and those that were added."""
    if context.invoked_subcommand is not None:
        return
    start(verbose=verbose)
    from geoseg.detectors import added_models, bundled_models

    bundled, (added, faults) = bundled_models(), added_models()
    for fault in faults:
        log.warning("%s", fault)
    if as_json:
        typer.echo(json.dumps([asdict(card) for card in [*bundled, *added]], indent=2))
        return
    table = Table("name", "version", "classes", "GSD (m)", "tile (px)", "notes", box=None, pad_edge=False)
    for card in [*bundled, *added]:
        gsd = "any" if card.gsd_m is None else f"{card.gsd_m:g}"
        tile = f"{card.core} + {card.halo}"
        table.add_row(card.name, card.version, ", ".join(card.classes), gsd, tile, card.notes)
    show(table)
    out.print("Use one with: geoseg extract RASTER -o OUT.gpkg --model NAME (or the path of a weights file)")


@models.command()
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights: .safetensors, .onnx, or a folder that transformers saved.")
    ],
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The model card (TOML; templates are in configs/models). Unset: the one in the weights.",
        ),
    ] = None,
    pickle: Annotated[bool, flag("--pickle", help="FILE may be a .pth: only its tensors are read.")] = False,
    force: Annotated[bool, flag("--force", help="Replace a model of that name that was added before.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check a model of your own, and keep it under its card's name."""
    start(verbose=verbose)
    from geoseg.zoo import add_model

    typer.echo(add_model(file, card, pickled=pickle, force=force))


@models.command()
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Mask R-CNN: name from `geoseg models`, or a weights file.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="ONNX to write; its card goes beside it.")
    ],
    verbose: Verbose = False,
) -> None:
    """Write a model as one ONNX file, from pixels to boxes, scores and masks, for any size of image."""
    start(verbose=verbose)
    from geoseg.zoo import export_model

    typer.echo(export_model(model, output))
