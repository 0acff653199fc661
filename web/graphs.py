"""Lineage as SVG, drawn by the server: what came before to the left, what came of it to the right.

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
"""Characters of the two lines of a node; all of it is in the tooltip."""


def lineage(graph: LineageGraph, address: Callable[[LineageNode], str | None]) -> SafeString:
    """The drawing of *graph*; *address* gives what a node links to."""
    places = _places(graph)
    if not places:
        return SafeString("")
    wide = max(x for x, _y in places.values()) + WIDTH + MARGIN
    high = max(y for _x, y in places.values()) + HEIGHT + MARGIN
    return format_html(
        '<svg class="lineage" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="group"'
        ' aria-label="{label}"><defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4"'
        ' markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        "{edges}{nodes}</svg>",
        w=wide,
        h=high,
        label=_("Lineage"),
        edges=format_html_join(
            "",
            '<path class="edge" marker-end="url(#arrow)" d="{}"/>',
            [
                (_curve(places[edge.source], places[edge.target]),)
                for edge in graph.edges
                if edge.source in places and edge.target in places
            ],
        ),
        nodes=format_html_join(
            "",
            "{}",
            [
                (_node(node, places[node.node_id], address(node), graph.root_artifact),)
                for node in graph.nodes
            ],
        ),
    )


def _places(graph: LineageGraph) -> dict[str, tuple[int, int]]:
    """Where each node is drawn: a column for each step away from the root, in the graph's order."""
    columns = {graph.root_artifact: 0}
    beside: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for edge in graph.edges:
        beside[edge.source].append((edge.target, 1))
        beside[edge.target].append((edge.source, -1))
    waiting = deque([graph.root_artifact])
    while waiting:
        for other, step in beside[current := waiting.popleft()]:
            if other not in columns:
                columns[other] = columns[current] + step
                waiting.append(other)
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


def _node(node: LineageNode, place: tuple[int, int], address: str | None, root: str) -> SafeString:
    facts = node.metadata
    is_run = node.node_type == "run"
    state = "purged" if facts.get("purged") else "deleted" if facts.get("deleted") else ""
    title = (facts.get("name") or node.node_id) if is_run else node.node_id
    more = node.node_id if is_run and facts.get("name") else str(facts.get("type", ""))
    notes = {"purged": _("no longer there"), "deleted": pgettext("version", "deleted"), "": ""}
    lines: Sequence[str] = [title, notes[state] or (_("run") if is_run and not more else more)]
    shape = format_html(
        '<g class="node {kind} {state} {root}" transform="translate({x} {y})">'
        "<title>{label}</title>"
        '<rect width="{w}" height="{h}" rx="{r}"/><text x="12" y="19">{title}</text>'
        '<text class="more" x="12" y="36">{more}</text></g>',
        kind=node.node_type,
        state=state,
        root="root" if node.node_id == root else "",
        x=place[0],
        y=place[1],
        w=WIDTH,
        h=HEIGHT,
        r=HEIGHT // 2 if is_run else 5,
        label=" · ".join(filter(None, [node.node_id, title if is_run else "", notes[state]])),
        title=_short(lines[0], LONGEST_TITLE),
        more=_short(lines[1], LONGEST),
    )
    return format_html('<a href="{}">{}</a>', address, shape) if address else shape


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
