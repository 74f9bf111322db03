"""An evaluation as one HTML page that needs nothing else: figures, precision against recall, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_SIDE = 320
"""Pixels of a chart's plotting area."""
_RIM = 44
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; } td, th { padding: 0.15rem 0.9rem 0.15rem 0; }
td:first-child { overflow-wrap: anywhere; min-width: 8rem; }
th { text-align: left; font-weight: 600; } td { font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100%; } svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: #444; }
@media (max-width: 32rem) { body { font-size: 12px; padding: 0 0.7rem; } h1 { font-size: 1.4rem; }
  td, th { padding-right: 0.35rem; } td:first-child { min-width: 4rem; } }
"""


def page(values: Mapping[str, Any], title: str) -> str:
    """The page for what :meth:`geoseg.evaluation.Evaluation.to_dict` gives."""
    parts = [f"<h1>{escape(title)}</h1>"]
    if values.get("area"):
        parts.append(f"<p>Counted in {escape(values['area'])}.</p>")
    parts.append(_rows(_figures(values)))
    if values.get("by_label"):
        names = ("n_truth", "n_pred", "precision", "recall", "f1", "mean_iou")
        rows = [(label, *(_text(scores[name]) for name in names)) for label, scores in values["by_label"].items()]
        parts.append(_rows(rows, head=("class", "true", "predicted", "precision", "recall", "F1", "mean IoU")))
    parts.append(_rows(values["errors"].items(), head=("error", "count")))
    if curve := values.get("curve"):
        line = list(zip(curve["recall"], curve["precision"], strict=True))
        parts.append(_chart("Precision against recall", "recall", "precision", _line(line)))
    if calibration := values.get("calibration"):
        bars = "".join(_bar(each) for each in calibration["bins"])
        diagonal = _line([(0, 0), (1, 1)], colour="#999", dash="4 4")
        parts.append(_chart("Are scores what they say?", "score", "share that is right", bars + diagonal))
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>"
    )


def _figures(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and figure of what one wants to know first; with its interval where there is one."""
    sure = values.get("intervals") or {}
    if not values["n_truth"] and not values["n_pred"]:  # rates of 1 by convention, which nobody should read as found
        values = {**values, "f1": None, "precision": None, "recall": None}
    rows = []
    for key, name in (("f1", "F1"), ("precision", "precision"), ("recall", "recall"), ("mean_iou", "mean IoU")):
        low_high = f" ({sure[key][0]:.3f} to {sure[key][1]:.3f}, {sure['level']:.0%} range)" if key in sure else ""
        rows.append((f"{name} at IoU {values['iou']:g}", _text(values[key]) + low_high))
    rows.append(("true, predicted, matched", ", ".join(f"{values[k]:,}" for k in ("n_truth", "n_pred", "n_matched"))))
    for key, name in (("masks", "outlines"), ("boxes", "boxes")):
        if ap := values.get(key):
            rows.append((f"AP, AP50, AP75 of {name}", ", ".join(_text(ap[k]) for k in ("ap", "ap50", "ap75"))))
    if best := values.get("best_f1"):
        rows.append(("best F1", f"{best['f1']:.3f} at score >= {best['score_threshold']:.3f}"))
    if calibration := values.get("calibration"):
        rows.append(("calibration error (ECE)", _text(calibration["ece"])))
    shapes = values["shapes"]
    rows.append(
        (
            f"PoLiS distance, mean and median ({shapes['unit']})",
            f"{_text(shapes['polis'])}, {_text(shapes['polis_median'])}",
        )
    )
    rows.append((f"boundary F within {shapes['tolerance']:g} {shapes['unit']}", _text(shapes["boundary_f"])))
    return rows


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def _rows(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    top = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>" if head else ""
    lines = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return "<div class='wide'><table>" + top + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def _at(x: float, y: float) -> tuple[float, float]:
    """Place in the picture of a point of the unit square."""
    return round(_RIM + x * _SIDE, 2), round(_RIM / 2 + (1 - y) * _SIDE, 2)


def _line(points: Sequence[tuple[float, float]], *, colour: str = "#1f56c8", dash: str = "none") -> str:
    path = " ".join("{},{}".format(*_at(x, y)) for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'


def _bar(each: Mapping[str, Any]) -> str:
    left, top = _at(each["from"], each["right"])
    right, bottom = _at(each["to"], 0)
    return (
        f'<rect x="{left}" y="{top}" width="{right - left - 1:.2f}" height="{bottom - top:.2f}" fill="#00b0e6">'
        f"<title>{each['count']} predictions, mean score {each['score']:.3f}, {each['right']:.1%} right</title></rect>"
    )


def _chart(title: str, x_name: str, y_name: str, marks: str) -> str:
    (left, bottom), (right, top) = _at(0, 0), _at(1, 1)
    ticks = "".join(
        f'<text x="{_at(v, 0)[0]}" y="{bottom + 16}" text-anchor="middle">{v:g}</text>'
        f'<text x="{left - 6}" y="{_at(0, v)[1] + 4}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    size = _SIDE + 1.5 * _RIM
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {size} {size}" width="{size}" '
        f'height="{size}" role="img" aria-label="{escape(f"{title}: {y_name} over {x_name}")}">'
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#bbb"/>'
        f'{marks}{ticks}<text x="{(left + right) / 2}" y="{bottom + 34}" text-anchor="middle">{escape(x_name)}</text>'
        f'<text transform="translate(12 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>'
        "</svg></figure>"
    )
