"""A report of one run, for reading: Markdown, HTML and PDF say the same; the latter two draw."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from html import escape
from itertools import starmap
from pathlib import Path
from typing import Any

from ._fonts import LATIN, segments
from ._record import EXACT, Record, Series, all_series, is_finite, shown
from .axis import GRID, Axis, short

CURVE_POINTS = 600
MOST_CURVES = 24
LONGEST_TEXT = 1000
"""Characters of one value on paper."""

_NAME = "Runicorn"


@dataclass
class Report:
    """The contents of a report, before it is laid out."""

    record: Record
    information: list[tuple[str, str]] = field(default_factory=list)
    status: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)
    """Tags and notes. The Markdown is read by scripts of v0.4, which know none."""
    parameters: list[tuple[str, str]] = field(default_factory=list)
    summary: list[tuple[str, str]] = field(default_factory=list)
    events: int = 0
    series: list[Series] = field(default_factory=list)
    generated: datetime = field(default_factory=datetime.now)

    @classmethod
    def of(cls, record: Record) -> Report:
        meta, status = record.meta, record.status
        report = cls(record)
        report.information = [
            ("Project", record.project or "-"),
            ("Experiment", record.name or "-"),
            ("Run ID", record.run_id),
            ("Created", _date(meta.get("created_at"))),
            ("Platform", str(meta.get("platform") or "-")),
            ("Python", str(meta.get("python") or "-")),
        ]
        if record.tags:
            report.noted.append(("Tags", ", ".join(record.tags)))
        if record.notes:
            report.noted.append(("Notes", record.notes))
        started, ended = status.get("started_at"), status.get("ended_at")
        report.status = [("Status", str(status.get("status") or "finished"))]
        if is_finite(started):
            report.status.append(("Started", _date(started)))
        if is_finite(ended):
            report.status.append(("Ended", _date(ended)))
        if is_finite(started) and is_finite(ended):
            report.status.append(("Duration", f"{ended - started:.2f} seconds"))  # type: ignore
        report.parameters = [(key, shown(value)) for key, value in record.params.items()]
        report.summary = [(str(key), str(value)) for key, value in record.summary.items()]
        report.events, report.series = all_series(record)
        return report

    def statistics(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Yield name, min, max, mean and last of each metric; the first three of finite numbers."""
        for series in self.series:
            numbers = (series.low, series.high, series.mean, series.last)
            low, high, mean, last = map(_shown, numbers)
            yield series.key, low, high, mean, last

    def curves(self) -> list[Curve]:
        """The charts: of metrics with more than one value."""
        curves = [Curve.of(series) for series in self.series if len(series.values) > 1]
        return curves[:MOST_CURVES]


def _date(timestamp: object) -> str:
    try:
        return datetime.fromtimestamp(timestamp).strftime("%Y-%m-%d %H:%M:%S")  # type: ignore
    except (TypeError, ValueError, OverflowError, OSError):
        return "-"


def _shown(value: float) -> str:
    """Return *value* with six decimals, or with an exponent where these would say nothing.

    Large numbers keep every digit that they have.
    """
    if isinstance(value, int) and abs(value) >= EXACT:
        return str(value) if abs(value) < 10**40 else f"{Decimal(value).normalize():.17g}"
    if abs(value) >= EXACT and math.isfinite(value):
        return repr(value)
    if value and abs(value) < 1e-4:
        return f"{value:.6g}"
    return f"{value:.6f}"


# -- Markdown ----------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    lines = ["# Experiment Report", "", f"Generated: {report.generated:%Y-%m-%d %H:%M:%S}", ""]
    for title, facts in (
        ("Experiment Information", report.information),
        ("Run Status", report.status),
    ):
        lines += [f"## {title}", ""]
        lines += [f"- **{label}**: {_plain(value)}" for label, value in facts]
        lines.append("")
    if report.parameters:
        lines += ["## Parameters", ""]
        lines += _markdown_table(("Parameter", "Value"), report.parameters)
    if report.summary:
        lines += ["## Summary Metrics", ""]
        lines += _markdown_table(("Metric", "Value"), report.summary)
    if report.events:
        lines += ["## Metrics Overview", "", f"Total events recorded: {report.events}", ""]
        if report.series:
            lines += ["### Metric Statistics", ""]
            header = ("Metric", "Min", "Max", "Mean", "Last")
            lines += _markdown_table(header, list(report.statistics()))
    else:
        lines.append("")
    return "\n".join(lines)


def _markdown_table(header: tuple[str, ...], rows: list[Any]) -> list[str]:
    ruler = "|" + "|".join("-" * (len(name) + 2) for name in header) + "|"
    body = ("| " + " | ".join(_plain(c).replace("|", "\\|") for c in row) + " |" for row in rows)
    return ["| " + " | ".join(header) + " |", ruler, *body, ""]


def _plain(text: str) -> str:
    return " ".join(text.split()) if "\n" in text or "\r" in text else text


# -- curves ------------------------------------------------------------------------------------


@dataclass
class Curve:
    """One metric, downsampled to what a chart can show, on axes of ``GRID`` units."""

    key: str
    points: list[tuple[float, float]]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    last: str

    @classmethod
    def of(cls, series: Series) -> Curve:
        order = sorted(range(len(series.steps)), key=series.steps.__getitem__)
        steps = array("d", (series.steps[i] for i in order))
        values = array("d", (series.values[i] for i in order))
        across, up = Axis.around(steps, whole=True), Axis.around(values, room=0.06)
        return cls(
            series.key,
            [(across.at(steps[i]), up.at(values[i])) for i in _downsample(values)],
            across.ticks(),
            up.ticks(),
            short(series.last) if is_finite(series.last) else _shown(series.last),
        )


def _downsample(values: array[float]) -> list[int]:
    """Return the indexes of the first and last value, and of the extremes of each bucket."""
    if len(values) <= CURVE_POINTS:
        return list(range(len(values)))
    buckets = CURVE_POINTS // 2
    kept = {0, len(values) - 1}
    for n in range(buckets):
        bucket = range(len(values) * n // buckets, len(values) * (n + 1) // buckets)
        kept |= {min(bucket, key=values.__getitem__), max(bucket, key=values.__getitem__)}
    return sorted(kept)


# -- HTML --------------------------------------------------------------------------------------

_STYLE = """\
:root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #d9dee7;
  --curve: #2f6fde }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #364152; --curve: #7aa7ff } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto;
  padding: 0 1.25rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem }
.soft { color: var(--soft) } .facts { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem;
  align-items: start }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere } th { font-weight: 600 }
.summary th { width: 12rem } .facts th { width: 7rem }
.facts th, .summary th { font-weight: 500; color: var(--soft) }
.numbers td:not(:first-child), .numbers th:not(:first-child) {
  text-align: right; padding-right: 0 }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem 2rem }
figure { margin: 0; break-inside: avoid } figcaption { display: flex;
  justify-content: space-between; gap: 1rem; overflow-wrap: anywhere }
svg { width: 100%; height: auto; display: block }
svg text { font-size: 11px; fill: var(--soft) } svg line { stroke: var(--line) }
svg path { fill: none; stroke: var(--curve); stroke-width: 1.6; stroke-linejoin: round }
@media (max-width: 42rem) { .charts, .facts { grid-template-columns: 1fr } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #555; --line: #ccc;
    --curve: #2f6fde }
  body { margin: 0; max-width: none; font-size: 11px } tr { break-inside: avoid }
  h2 { break-after: avoid } }
@page { margin: 16mm }"""


def html(report: Report) -> str:
    """One page that needs nothing else: no script, no font, no picture from elsewhere."""
    title = escape(f"{report.record.project} / {report.record.name}")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title} - {_NAME}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{title}</h1><p class="soft">Experiment Report, generated '
        f"{report.generated:%Y-%m-%d %H:%M:%S}</p>",
        f'<div class="facts">{_facts(report.information + report.noted)}',
        f"{_facts(report.status)}</div>",
    ]
    if report.parameters:
        parts.append(f"<h2>Parameters</h2>{_facts(report.parameters, 'summary')}")
    if report.summary:
        parts.append(f"<h2>Summary Metrics</h2>{_facts(report.summary, 'summary')}")
    if report.events:
        parts.append(
            f'<h2>Metrics Overview</h2><p class="soft">{report.events:,} events recorded</p>'
        )
    if curves := report.curves():
        drawn = "".join(map(_figure, curves))
        parts.append(f'<div class="charts">{drawn}</div>')
    if report.series:
        header = "".join(f"<th>{n}</th>" for n in ("Metric", "Min", "Max", "Mean", "Last"))
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
            for row in report.statistics()
        )
        parts.append(
            f'<h2>Metric Statistics</h2><table class="numbers"><tr>{header}</tr>{rows}</table>'
        )
    return "\n".join([*parts, "</body></html>", ""])


def _facts(facts: list[tuple[str, str]], kind: str = "") -> str:
    rows = (f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in facts)
    return f'<table class="{kind}">{"".join(rows)}</table>'


def _figure(curve: Curve) -> str:
    left, top, width, height = 52, 6, 400, 150
    rows = "".join(
        f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in ((top + height * (1 - at / GRID), text) for at, text in curve.up)
    )
    columns = "".join(
        f'<text x="{left + width * at / GRID:.1f}" y="{top + height + 16}" '
        f'text-anchor="middle">{text}</text>'
        for at, text in curve.across
    )
    path = "M" + "L".join(
        f"{left + width * x / GRID:.1f} {top + height * (1 - y / GRID):.1f}"
        for x, y in curve.points
    )
    key = escape(curve.key)
    return (
        f'<figure><figcaption><b>{key}</b><span class="soft">last {escape(curve.last)}</span>'
        f'</figcaption><svg viewBox="0 0 {left + width + 14} {top + height + 22}" role="img" '
        f'aria-label="{key}">{rows}{columns}<path d="{path}"/></svg></figure>'
    )


# -- PDF ---------------------------------------------------------------------------------------

_LINE = 80
"""Characters of a line that is read from right to left: it must not be broken once it is drawn."""


def write_pdf(report: Report, path: Path) -> None:
    """The report on A4 paper, charts as lines that stay sharp. Needs reportlab."""
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import mm
    from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

    soft, line = colors.HexColor("#667085"), colors.HexColor("#d9dee7")
    text = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12, splitLongWords=1)
    muted = ParagraphStyle("muted", text, textColor=soft)
    right = ParagraphStyle("right", text, alignment=2)
    title = ParagraphStyle("title", text, fontName="Helvetica-Bold", fontSize=17, leading=22)
    heading = ParagraphStyle(
        "heading", text, fontName="Helvetica-Bold", fontSize=11.5, spaceBefore=14, spaceAfter=5
    )
    width = A4[0] - 36 * mm - 12  # less the frame's own padding

    def table(rows: list[list[Any]], widths: list[float], repeat: int = 0) -> Table:
        made = Table(rows, colWidths=widths, repeatRows=repeat, hAlign="LEFT")
        made.setStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, line),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 2.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
            ]
        )
        return made

    def facts(pairs: list[tuple[str, str]]) -> Table:
        rows = [[Paragraph(_pdf(k), muted), Paragraph(_pdf(v), text)] for k, v in pairs]
        return table(rows, [width * 0.27, width * 0.73])

    name = f"{report.record.project} / {report.record.name}"
    story: list[Any] = [
        Paragraph(_pdf(name), title),
        Paragraph(f"Experiment Report, generated {report.generated:%Y-%m-%d %H:%M:%S}", muted),
        Spacer(0, 8),
        facts(report.information + report.noted + report.status),
    ]
    if report.parameters:
        story += [Paragraph("Parameters", heading), facts(report.parameters)]
    if report.summary:
        story += [Paragraph("Summary Metrics", heading), facts(report.summary)]
    if curves := report.curves():
        drawn = [_drawing(curve, width / 2 - 8) for curve in curves]
        pairs = [[*drawn[n : n + 2], ""][:2] for n in range(0, len(drawn), 2)]
        flush = [("LEFTPADDING", (0, 0), (-1, -1), 0)]
        charts = [Table([p], [width / 2] * 2, hAlign="LEFT", style=flush) for p in pairs]
        events = Paragraph(f"{report.events:,} events recorded", muted)
        first = [Paragraph("Metrics Overview", heading), events, charts[0]]
        story += [KeepTogether(first), *charts[1:]]
    if report.series:
        header = [Paragraph("<b>Metric</b>", text)]
        header += [Paragraph(f"<b>{n}</b>", right) for n in ("Min", "Max", "Mean", "Last")]
        rows = [
            [Paragraph(_pdf(key), text), *(Paragraph(number, right) for number in numbers)]
            for key, *numbers in report.statistics()
        ]
        story += [
            Paragraph("Metric Statistics", heading),
            table([header, *rows], [width * 0.36] + [width * 0.16] * 4, repeat=1),
        ]

    def footer(canvas: Any, document: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.setFillColor(soft)
        x = 18 * mm
        for font, part in segments(f"{_NAME}   {report.record.run_id}"):
            canvas.setFont(font, 8)
            canvas.drawString(x, 10 * mm, part)
            x += canvas.stringWidth(part, font, 8)
        canvas.setFont("Helvetica", 8)
        canvas.drawRightString(A4[0] - 18 * mm, 10 * mm, str(document.page))

    margins = {f"{side}Margin": 18 * mm for side in ("left", "right", "top", "bottom")}
    document = SimpleDocTemplate(str(path), pagesize=A4, title=name, creator=_NAME, **margins)
    document.build(story, onFirstPage=footer, onLaterPages=footer)


def _drawing(curve: Curve, full: float) -> Any:
    from reportlab.graphics.shapes import Drawing, Line, PolyLine, String
    from reportlab.lib.colors import HexColor
    from reportlab.pdfbase.pdfmetrics import stringWidth

    soft, grid, blue = HexColor("#667085"), HexColor("#d9dee7"), HexColor("#2f6fde")
    left, bottom, width, height = 38, 16, full - 50, 92
    drawing = Drawing(full, height + 40)
    name = curve.key if len(curve.key) < 40 else f"{curve.key[:38]}…"
    end = 0.0
    for font, part in segments(name):
        font = "Helvetica-Bold" if font == LATIN else font
        drawing.add(String(end, height + 26, part, fontName=font, fontSize=9))
        end += stringWidth(part, font, 9)
    last = f"last {curve.last}"
    place = {"fontSize": 8, "fillColor": soft, "fontName": "Helvetica"}
    drawing.add(String(left + width, height + 26, last, textAnchor="end", **place))
    for at, text in curve.up:
        y = bottom + height * at / GRID
        drawing.add(Line(left, y, left + width, y, strokeColor=grid, strokeWidth=0.5))
        drawing.add(String(left - 4, y - 2.5, text, textAnchor="end", **place | {"fontSize": 7}))
    for at, text in curve.across:
        x = left + width * at / GRID
        drawing.add(String(x, bottom - 11, text, textAnchor="middle", **place | {"fontSize": 7}))
    points = [
        n for x, y in curve.points for n in (left + width * x / GRID, bottom + height * y / GRID)
    ]
    drawing.add(PolyLine(points, strokeColor=blue, strokeWidth=1, strokeLineJoin=1))
    return drawing


def _pdf(text: str) -> str:
    """Return *text* for a paragraph, each part of it in a font that has its characters."""
    if len(text) > LONGEST_TEXT:  # a cell cannot be higher than a page
        text = f"{text[:LONGEST_TEXT]}…"
    is_right_to_left = any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)
    lines = textwrap.wrap(text, _LINE) if is_right_to_left else [text]
    return "<br/>".join("".join(starmap(_in_font, segments(line))) for line in lines)


def _in_font(font: str, text: str) -> str:
    return escape(text) if font == LATIN else f'<font name="{font}">{escape(text)}</font>'
