"""`geoseg evaluate`: footprints against the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from geoseg.cli.console import Verbose, flag, log, out, show, start
from geoseg.errors import ConfigError
from geoseg.paths import distinct, expanded

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.evaluation import Comparison, Evaluation, Scores

_REPORTS = (".json", ".html")
_LOW = 0.2
"""Where no score is lower, somebody has cut them off, and AP misses the end of its curve."""


def evaluate(
    pred: Annotated[
        Path, typer.Argument(metavar="PRED", help="Footprints: GeoPackage, GeoParquet, GeoJSON, ... or COCO.")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True outlines, in any CRS; or COCO JSON.")],
    iou: Annotated[
        float, typer.Option(metavar="0..1", help="Intersection over union from which on a pair counts.")
    ] = 0.5,
    aoi: Annotated[
        str | None,
        typer.Option(
            metavar="AREA",
            help="Count only inside: a vector file, west,south,east,north in degrees, or WKT in longitude, latitude. "
            "Unset: where PRED's run looked.",
        ),
    ] = None,
    any_label: Annotated[bool, flag("--any-label", help="Match outlines whatever their labels.")] = False,
    sweep: Annotated[bool, flag("--sweep", help="Also all figures at the score threshold with the best F1.")] = False,
    errors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was missed, false, poor, split ... as a layer for QGIS (.gpkg)."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures and curves: .json, or .html to look at.")
    ] = None,
    as_json: Annotated[bool, flag("--json", help="Print all figures as one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Precision, recall, F1, average precision, outlines and errors, against the truth."""
    start(verbose=verbose)
    distinct([errors, report], [pred, truth, aoi])
    if report is not None and report.suffix.lower() not in _REPORTS:
        raise ConfigError(f"a report named {report.name!r}", allowed=f"names that end in {', '.join(_REPORTS)}")
    from geoseg.evaluation import assess
    from geoseg.sinks import check_suffix
    from geoseg.sinks.atomic import check_place

    for target in filter(None, (errors, report)):  # before the work
        check_place(expanded(target))
    if errors is not None:
        check_suffix(errors)
    case = _case(pred, truth, iou=iou, aoi=aoi, any_label=any_label)
    found = assess(case.scenes, area=case.area)
    best = None
    if sweep:
        if found.curve is not None:
            best = _best(case.scenes)
        else:
            log.warning("--sweep, and no prediction has a score: there is no threshold to choose")
    if errors is not None:
        _write_errors(case, errors)
    values = found.to_dict() | ({"best": {"score_threshold": best[0], **best[1].to_dict()}} if best else {})
    if report is not None:
        _write_report(values, report, title=f"{pred.name} against {truth.name}")
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    rows = {"all": found.scores, **(found.scores.by_label if len(found.scores.by_label) > 1 else {})}
    if best:
        rows[f"score >= {best[0]:.2f}"] = best[1]
    show(_table(rows, iou))
    for line in _lines(found):
        out.print(line, markup=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """What is compared."""

    scenes: list[Comparison]
    """One, or one per image."""
    area: str
    """Where things are counted, in words."""
    of_images: bool = False
    """Whether it is COCO."""


def _case(pred: Path, truth: Path, *, iou: float, aoi: str | None, any_label: bool) -> _Case:
    from geoseg.coco import is_coco, read_coco, read_results
    from geoseg.evaluation import compare, compare_coco, examined
    from geoseg.evaluation.reviewed import is_reviewed
    from geoseg.vectors import read_gaps, read_table

    of_images = is_coco(truth)
    alike = pred.suffix.lower() == ".json" if of_images else not is_coco(pred)  # results alone are a list
    if not alike:
        raise ConfigError(
            f"{pred.name} and {truth.name}, of which only one is COCO",
            allowed="two vector files, or two COCO files",
            remedy="Make COCO of the other: geoseg export FILE --raster RASTER -o FILE.json",
        )
    if of_images:
        if aoi:
            raise ConfigError("--aoi with COCO files", allowed="files with a CRS", remedy="Leave --aoi out")
        known = read_coco(truth)
        found = read_results(pred, known)
        for warning in (*known.warnings, *found.warnings):
            log.warning("%s", warning)
        scenes = compare_coco(found, known, iou=iou, any_label=any_label)
        return _Case(scenes=scenes, area="1 image" if len(scenes) == 1 else f"{len(scenes)} images", of_images=True)
    tables = read_table(pred, "footprints"), read_table(truth, "truth")
    looked = examined(pred)
    if aoi:
        if looked and (looked.gaps is not None or "AOI" in looked.said):
            log.warning("--aoi is taken, not what PRED's run examined (%s): what it did not see is missed", looked.said)
        area, gaps, said = _area(aoi), None, "--aoi"
    elif looked:
        area, gaps, said = looked.aoi, looked.gaps, f"where the run of {pred.name} looked: {looked.said}"
    else:
        area, gaps, said = None, None, ""
        if "run" in tables[0]:
            log.warning("%s does not say where its run looked, so all of the truth counts; --aoi says where", pred)
    unseen = read_gaps(truth) if is_reviewed(tables[1]) else None
    if unseen is not None:
        gaps, said = _together(gaps, unseen), f"{said or 'all of both files'}, without the gaps of {truth.name}"
    extent = looked.extent if looked else None
    scene = compare(*tables, iou=iou, aoi=area, gaps=gaps, extent=extent, any_label=any_label)
    if said:
        out_of = int((~scene.truth_inside & ~scene.ignore).sum())
        said += f"; {out_of:,} true objects lie outside"
    return _Case(scenes=[scene], area=said)


def _together(gaps: gpd.GeoDataFrame | None, others: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The polygons of both, in one CRS."""
    import geopandas as gpd
    import pandas as pd

    from geoseg.vectors import reprojected

    if gaps is None:
        return others
    if others.crs is not None and gaps.crs is not None:
        others = reprojected(others, gaps.crs)
    return gpd.GeoDataFrame(pd.concat([gaps, others], ignore_index=True))


def _area(text: str) -> gpd.GeoDataFrame:
    """The AOI as a table, from whatever `geoseg extract --aoi` takes."""
    import geopandas as gpd

    from geoseg.aoi import read_aoi

    area = read_aoi(text)
    for warning in area.warnings:
        log.warning("%s", warning)
    return gpd.GeoDataFrame(geometry=[area.geometry], crs=area.crs)


def _best(scenes: list[Comparison]) -> tuple[float, Scores]:
    """The score threshold with the highest F1, over all scenes together, and all figures there."""
    from functools import reduce
    from operator import add

    from geoseg.evaluation import Sweep

    thresholds = max((scene.thresholds for scene in scenes if scene.has_scores), key=len)  # from the lowest score on
    scores = tuple(reduce(add, [scene.scores(threshold) for scene in scenes]) for threshold in thresholds)
    return Sweep(thresholds=thresholds, scores=scores).best


def _write_errors(case: _Case, path: Path) -> None:
    from geoseg.evaluation import error_layer
    from geoseg.sinks import check_suffix, write
    from geoseg.sinks.gpkg import write_errors

    if case.of_images:
        raise ConfigError("--errors with COCO files", allowed="files with a CRS", remedy="Leave --errors out")
    target = check_suffix(path)
    layer = error_layer(case.scenes[0])
    if target.suffix.lower() == ".gpkg":
        write_errors(target, layer)
    else:
        write(layer, target)
    log.info("%s errors: %s", len(layer), target)


def _write_report(values: dict[str, Any], path: Path, *, title: str) -> None:
    from geoseg.evaluation.page import page
    from geoseg.sinks.atomic import replacing

    text = json.dumps(values, indent=2) if path.suffix.lower() == ".json" else page(values, title)
    with replacing(expanded(path)) as (draft,):
        draft.write_text(text + "\n", encoding="utf-8")


def _table(rows: dict[str, Scores], iou: float) -> Table:
    columns = ("precision", "recall", "F1", "mean IoU", "predicted", "true", "matched")
    table = Table(f"IoU >= {iou:g}", *columns, box=None, pad_edge=False)
    for name, scores in rows.items():
        counts = (scores.n_pred, scores.n_truth, scores.n_matched)
        rates = [f"{rate:.3f}" if any(counts) else "-" for rate in (scores.precision, scores.recall, scores.f1)]
        mean = f"{scores.mean_iou:.3f}" if scores.n_matched else "-"
        table.add_row(name, *rates, mean, *(f"{count:,}" for count in counts))
    return table


def _unmatched(found: Evaluation) -> str:
    """What the table calls predicted or true but not matched, by its errors: each of these objects once, where several
    may have part in one error, and a matched one may be merged."""
    errors, scores, sides = found.errors, found.scores, []
    for side, objects, kinds, rest in (
        ("predicted", scores.n_pred, ("false", "poor outline", "duplicate"), "in splits or mergers"),
        ("true", scores.n_truth, ("missed", "poor outline", "split"), "swallowed"),
    ):
        left = objects - scores.n_matched
        counts = {kind: errors[kind] for kind in kinds}
        counts[rest] = left - sum(counts.values())
        sides.append(f"{left:,} {side} = " + " + ".join(f"{count:,} {kind}" for kind, count in counts.items()))
    return "unmatched    " + "; ".join(sides)


def _lines(found: Evaluation) -> list[str]:
    """What is said under the table: a line per subject, and only what can be told."""
    lines, unit = [""], found.shapes.unit
    if found.intervals:
        ranges = {"f1": "F1", "ap50": "AP50"}
        said = [f"{ranges[k]} {low:.2f}-{high:.2f}" for k, (low, high) in found.intervals.ranges.items() if k in ranges]
        blocks = f"{found.intervals.blocks} blocks of {found.intervals.side:,.0f} {unit}"
        lines.append(f"{found.intervals.level:.0%} range    {', '.join(said)} (bootstrap over {blocks})")
    if found.masks and found.boxes and found.scores.n_truth:
        masks, boxes = found.masks, found.boxes
        lines.append(f"AP           {masks.ap:.3f}, AP50 {masks.ap50:.3f}, AP75 {masks.ap75:.3f}; boxes {boxes.ap:.3f}")
        low, high = (f"{size:,.0f}" for size in masks.sizes)
        sizes = [f"{name} {'-' if ap != ap else f'{ap:.3f}'}" for name, ap in masks.by_size.items()]
        lines[-1] += f"; {', '.join(sizes)} (up to {low}, to {high}, above; {unit}²)"
    if found.curve and found.curve.best and found.calibration:
        threshold, f1 = found.curve.best
        error = f"{found.calibration.ece:.3f}" if found.calibration.count.any() else "-"
        lines.append(f"scores       best F1 {f1:.3f} at score >= {threshold:.3f}; calibration error {error}")
        if (lowest := found.curve.threshold[-1]) > _LOW:
            lines[-1] += f"; AP also needs what scores below {lowest:.2f}, the lowest here"
    if found.scores.n_matched:
        s = found.shapes
        lines.append(
            f"outlines     PoLiS {s.polis:.2f} {unit} (median {s.polis_median:.2f}), boundary F {s.boundary_f:.3f}"
            f" within {s.tolerance:g} {unit}"
        )
    lines.append("errors       " + ", ".join(f"{count:,} {kind}" for kind, count in found.errors.items()))
    lines.append(_unmatched(found))
    if found.area:
        lines.append(f"counted in   {found.area}")
    return lines
