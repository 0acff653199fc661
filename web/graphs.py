"""Lineage as an SVG drawing: inputs of a node are to its left, outputs to its right.

No inline style and no script: colours come from the style sheet, nodes are links.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from runicorn.artifacts import LineageGraph, LineageNode

WIDTH, HEIGHT = 164, 46
ACROSS, DOWN = WIDTH + 40, HEIGHT + 18
MARGIN = 8
LONGEST_TITLE, LONGEST = 19, 22
"""The most characters of the two lines of a node; the tooltip has all of them."""


def lineage(graph: LineageGraph, address: Callable[[LineageNode], str | None]) -> SafeString:
    """Return *graph* as SVG; *address* returns the link of a node."""
    positions = _positions(graph)
    if not positions:
        return SafeString("")
    width = max(x for x, _y in positions.values()) + WIDTH + MARGIN
    height = max(y for _x, y in positions.values()) + HEIGHT + MARGIN
    return format_html(
        '<svg class="lineage" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="group"'
        ' aria-label="{label}"><defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4"'
        ' markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        "{edges}{nodes}</svg>",
        w=width,
        h=height,
        label=_("Lineage"),
        edges=format_html_join(
            "",
            '<path class="edge" marker-end="url(#arrow)" d="{}"/>',
            [
                (_curve(positions[edge.source], positions[edge.target]),)
                for edge in graph.edges
                if edge.source in positions and edge.target in positions
            ],
        ),
        nodes=format_html_join(
            "",
            "{}",
            [
                (_node(node, positions[node.node_id], address(node), graph.root_artifact),)
                for node in graph.nodes
            ],
        ),
    )


def _positions(graph: LineageGraph) -> dict[str, tuple[int, int]]:
    """Return the position of each node: a column per step from the root, in the graph's order."""
    columns = {graph.root_artifact: 0}
    neighbors: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for edge in graph.edges:
        neighbors[edge.source].append((edge.target, 1))
        neighbors[edge.target].append((edge.source, -1))
    waiting = deque([graph.root_artifact])
    while waiting:
        for neighbor, step in neighbors[current := waiting.popleft()]:
            if neighbor not in columns:
                columns[neighbor] = columns[current] + step
                waiting.append(neighbor)
    rows: dict[int, list[str]] = defaultdict(list)
    for node in graph.nodes:
        rows[columns.setdefault(node.node_id, 0)].append(node.node_id)
    first = min(rows, default=0)
    most = max(map(len, rows.values()), default=0)
    return {
        name: (
            MARGIN + (column - first) * ACROSS,
            MARGIN + row * DOWN + (most - len(names)) * DOWN // 2,
        )
        for column, names in rows.items()
        for row, name in enumerate(names)
    }


def _curve(source: tuple[int, int], target: tuple[int, int]) -> str:
    x, y = source[0] + WIDTH, source[1] + HEIGHT // 2
    to_x, to_y = target[0], target[1] + HEIGHT // 2
    bend = max(20, abs(to_x - x) // 2)
    return f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x - 1} {to_y}"


def _node(
    node: LineageNode, position: tuple[int, int], address: str | None, root: str
) -> SafeString:
    facts = node.metadata
    is_run = node.node_type == "run"
    state = "purged" if facts.get("purged") else "deleted" if facts.get("deleted") else ""
    title = (facts.get("name") or node.node_id) if is_run else node.node_id
    subtitle = node.node_id if is_run and facts.get("name") else str(facts.get("type", ""))
    notes = {"purged": _("no longer there"), "deleted": pgettext("version", "deleted"), "": ""}
    lines: Sequence[str] = [
        title,
        notes[state] or (_("run") if is_run and not subtitle else subtitle),
    ]
    shape = format_html(
        '<g class="node {kind} {state} {root}" transform="translate({x} {y})">'
        "<title>{label}</title>"
        '<rect width="{w}" height="{h}" rx="{r}"/><text x="12" y="19">{title}</text>'
        '<text class="more" x="12" y="36">{subtitle}</text></g>',
        kind=node.node_type,
        state=state,
        root="root" if node.node_id == root else "",
        x=position[0],
        y=position[1],
        w=WIDTH,
        h=HEIGHT,
        r=HEIGHT // 2 if is_run else 5,
        label=" · ".join(filter(None, [node.node_id, title if is_run else "", notes[state]])),
        title=_short(lines[0], LONGEST_TITLE),
        subtitle=_short(lines[1], LONGEST),
    )
    return format_html('<a href="{}">{}</a>', address, shape) if address else shape


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
