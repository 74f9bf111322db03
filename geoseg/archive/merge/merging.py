"""One layer over overlapping scenes, in which each object is once.

Out of core: scenes are read a batch of rows at a time; only footprints on ground that another scene covers are
compared, cell by cell; the numbers of pairs are all that is held of them. Then the scenes are read again, and what is
kept goes out, parts of one object put together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
from pyproj import CRS

from geoseg.archive.config import MergeSettings
from geoseg.archive.manifest import Manifest
from geoseg.archive.merge.coverage import Coverage, ground_of, in_degrees
from geoseg.archive.merge.layer import write_layer
from geoseg.archive.merge.overlaps import Pieces, order, same, settled
from geoseg.archive.merge.reading import batches
from geoseg.archive.merge.spill import Spill
from geoseg.archive.merge.uniting import put_together
from geoseg.archive.record import WRITTEN, Record
from geoseg.ground import parse_crs
from geoseg.report import versions
from geoseg.sinks import written_run
from geoseg.sinks.atomic import write_failed
from geoseg.vectors import reprojected

log = logging.getLogger("geoseg")

WORK = ".merge.work"
_RULE = 4
"""Number of the rule: a layer that was made by another is made again."""


def merge_scenes(manifest: Manifest, settings: MergeSettings, target: Path) -> Path:
    """Write the layer over all scenes of a run that have an output, where that is not what stands there already.

    Returns:
        The path written: a file, or a folder of GeoParquet parts where ``target`` has no suffix.

    Raises:
        ConfigError: the gaps of an output cannot be read.
        SinkError: an output cannot be read, or the layer not be written; the one that stands there is intact then.
    """
    run, outputs = _identity(manifest, settings), _outputs(manifest, target)
    if written_run(target).get("run") == run and manifest.fact("merged_of") == outputs:
        log.info("%s: unchanged", target)
        return target
    try:
        _make(manifest, settings, target, run)
    except (OSError, sqlite3.Error) as error:  # of the spill, too: a full disk is no fault of geoseg's
        raise write_failed(target, error) from error
    manifest.note(merged_of=outputs)
    return target


def _make(manifest: Manifest, settings: MergeSettings, target: Path, run: str) -> None:
    work = manifest.folder / WORK
    work.mkdir(exist_ok=True)
    spill = Spill(work / "spill.sqlite")
    try:
        found = _compare(manifest, settings, spill)
        # Their own where they agree.
        crs = parse_crs(settings.crs) if settings.crs else found[0] if len(found) == 1 else CRS.from_epsg(4326)
        write_layer(target, _kept(manifest, spill, crs), manifest=manifest, crs=crs, run=run, work=work)
    finally:
        spill.close()
        shutil.rmtree(work, ignore_errors=True)


def _identity(manifest: Manifest, settings: MergeSettings) -> str:
    """16 hex digits: the same for the same outputs, states and rule."""
    digest = hashlib.sha256(json.dumps([_RULE, settings.model_dump(), versions().get("geoseg")], default=str).encode())
    for record in manifest.records():
        facts = [record.id, record.state, record.run, record.seen]
        if record.state == "parts":  # what is missing may be less than the last time, in the same run
            facts += [record.footprints, record.figures.get("gaps_m2")]
        digest.update(json.dumps(facts, default=str).encode())
    return digest.hexdigest()[:16]


def _outputs(manifest: Manifest, target: Path) -> str:
    """16 hex digits that change with the outputs that a layer is made of, also where somebody has corrected one.

    Not of the layer's identity, which says nothing of when and where files were written. Outputs with parts missing
    are written by every run, whether it finds more or not.
    """
    digest = hashlib.sha256(os.fsencode(target))
    for record in manifest.records("done"):
        digest.update(f"{record.id} {record.stamp}\n".encode())
    return digest.hexdigest()[:16]


def _compare(manifest: Manifest, settings: MergeSettings, spill: Spill) -> list[CRS]:
    """Find the footprints that are not kept, and those that are parts of one object; returns the CRSs of the outputs,
    each once."""
    found = _deal(manifest, spill)
    for pieces in spill.cells():
        rows, parts = same(pieces, iou=settings.iou, cover=settings.cover)
        spill.pair(pieces.number[rows], parts)
    pairs, parts, facts = spill.paired()
    best = order(settings.keep, **facts)
    numbers = facts["number"]
    rank = np.empty(len(best), np.int64)
    rank[best] = np.arange(len(best))
    leader, kept = settled(rank, np.searchsorted(numbers, pairs), parts)
    spill.lose(numbers[~kept | (leader != rank)])
    # Those that lead stand in their objects, too: as the first part.
    shared = kept & np.isin(leader, leader[leader != rank])
    spill.join(numbers[best][leader[shared]], numbers[shared], rank[shared])
    return found


def _deal(manifest: Manifest, spill: Spill) -> list[CRS]:
    """Deal out the footprints on ground that another scene covers, too; returns the CRSs of all, each once."""
    coverage = Coverage(manifest.records(*WRITTEN))
    found: list[CRS] = []
    start = 0
    for record in manifest.records(*WRITTEN):
        time = np.nan if record.seen is None else record.seen.timestamp()
        ground = ground_of(record) if coverage.crossed(record.id) else None
        for table in batches(manifest.folder / record.output):
            numbers = np.arange(start, start + len(table))
            start += len(table)
            if table.crs is not None and table.crs not in found:
                found.append(table.crs)
            if ground is None or not len(table):
                continue
            degrees = in_degrees(table)
            rows = coverage.by_another(degrees, record.id)
            pieces = Pieces(
                number=numbers[rows],
                scene=np.full(len(rows), record.id),
                label=table["label"].to_numpy(object)[rows],
                geometry=degrees[rows],
                cut=table["cut_by_edge"].to_numpy(bool)[rows],
                ground=np.full(len(rows), ground, object),
            )
            score, area = (table[name].to_numpy(float)[rows] for name in ("score", "area_m2"))
            spill.add(pieces, time=time, score=score, area=area)
    return found


def _kept(manifest: Manifest, spill: Spill, crs: CRS) -> Iterator[tuple[Record, gpd.GeoDataFrame]]:
    """The rows that are kept, in the order of scenes and of their outputs."""
    start = 0
    for record in manifest.records(*WRITTEN):
        for table in batches(manifest.folder / record.output):
            end = start + len(table)
            table = put_together(table, ((number - start, parts) for number, parts in spill.joined(start, end)))
            lost = spill.lost(start, end) - start
            start = end
            if len(lost):
                table = table.drop(index=lost).reset_index(drop=True)
            yield record, table if table.crs is None or crs == table.crs else reprojected(table, crs)
