"""`geoseg evaluate`: footprints against the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from geoseg.cli.console import Verbose, log, show, start

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.evaluation import Scores


def evaluate(
    pred: Annotated[Path, typer.Argument(help="Footprints: a GeoPackage, GeoParquet, GeoJSON, ...")],
    truth: Annotated[Path, typer.Argument(help="True outlines, in any CRS.")],
    iou: Annotated[float, typer.Option(help="A pair counts from this intersection over union on.")] = 0.5,
    aoi: Annotated[
        str | None, typer.Option(help="Count only inside: a vector file, w,s,e,n in degrees, or WKT.")
    ] = None,
    any_label: Annotated[bool, typer.Option("--any-label", help="Match outlines whatever their labels.")] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also the score threshold with the best F1.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The scores as one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Precision, recall, F1 and the mean IoU of the matches."""
    from geoseg import evaluation
    from geoseg.vectors import read_table

    start(verbose=verbose)
    tables = read_table(pred, "footprints"), read_table(truth, "truth")
    area = _area(aoi) if aoi else None
    scores = evaluation.evaluate(*tables, iou=iou, aoi=area, any_label=any_label)
    best = evaluation.sweep(*tables, iou=iou, aoi=area, any_label=any_label).best if sweep else None
    if as_json:
        values: dict[str, Any] = scores.to_dict()
        if best:
            values["best"] = {"score_threshold": best[0], **best[1].to_dict()}
        typer.echo(json.dumps(values, indent=2))
        return
    rows = {"all": scores, **(scores.by_label if len(scores.by_label) > 1 else {})}
    if best:
        rows[f"score >= {best[0]:.2f} (best F1)"] = best[1]
    show(_table(rows, iou))


def _area(text: str) -> gpd.GeoDataFrame:
    """The AOI as a table, from whatever `geoseg extract --aoi` takes."""
    import geopandas as gpd

    from geoseg.aoi import read_aoi

    area = read_aoi(text)
    for warning in area.warnings:
        log.warning("%s", warning)
    return gpd.GeoDataFrame(geometry=[area.geometry], crs=area.crs)


def _table(rows: dict[str, Scores], iou: float) -> Table:
    columns = ("precision", "recall", "F1", "mean IoU", "predicted", "true", f"matched (IoU >= {iou:g})")
    table = Table("", *columns, box=None, pad_edge=False)
    for name, scores in rows.items():
        rates = (scores.precision, scores.recall, scores.f1, scores.mean_iou)
        counts = (scores.n_pred, scores.n_truth, scores.n_matched)
        table.add_row(name, *(f"{rate:.3f}" for rate in rates), *(f"{count:,}" for count in counts))
    return table
