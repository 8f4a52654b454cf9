"""Draw docs/images/rooms.svg: the rooms, and who imports of whom. Run it after a change of the rooms' imports.

python docs/make/diagram.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from rooms import Room, imports, reduced, rooms

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE, DRAWING = REPOSITORY / "src" / "harness", REPOSITORY / "docs" / "images" / "rooms.svg"
COLUMNS = {"stats": 0, "tracking": 2, "serving": 2}  # all others: in the middle
MIDDLE, WIDTH, HEIGHT, GAP_X, GAP_Y = 1, 260, 40, 18, 26


def draw(edges: Iterable[tuple[str, str]], boxes: Sequence[Room]) -> str:
    """Return the drawing as SVG text: a box a room, an arrow from each room to what it imports."""
    arrows = sorted(edges)
    rows = _rows(arrows, [room.name for room in boxes])
    top = max(rows.values())
    corners = {
        name: (GAP_X + COLUMNS.get(name, MIDDLE) * (WIDTH + GAP_X), GAP_Y + (top - row) * (HEIGHT + GAP_Y))
        for name, row in rows.items()
    }
    width, height = GAP_X + 3 * (WIDTH + GAP_X), GAP_Y + (top + 1) * (HEIGHT + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Rooms of src/harness and their imports" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#5f6b7a"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    parts += [_arrow(start, end, corners[start], corners[end]) for start, end in arrows]
    parts += [_box(room.name, room.says, corners[room.name]) for room in boxes]
    return "\n".join([*parts, "</svg>", ""])


def _rows(arrows: Iterable[tuple[str, str]], names: Sequence[str]) -> Mapping[str, int]:
    """Return how high each room stands: above all that it imports; what imports nothing, right below its users."""
    targets: dict[str, set[str]] = {name: set() for name in names}
    for start, end in arrows:
        targets[start].add(end)
    rows: dict[str, int] = {}

    def row(name: str) -> int:
        if name not in rows:
            rows[name] = 1 + max((row(end) for end in targets[name]), default=-1)
        return rows[name]

    for name in targets:
        row(name)
    for name in (name for name, ends in targets.items() if not ends and name != names[0]):
        rows[name] = min(rows[start] for start, ends in targets.items() if name in ends) - 1
    return rows


def _arrow(start: str, end: str, at: tuple[float, float], to: tuple[float, float]) -> str:
    x2, y2 = to[0] + WIDTH / 2, to[1]
    below = at[1] + HEIGHT + GAP_Y  # where the next row begins
    if to[0] == at[0] or y2 == below:
        x1, y1 = at[0] + WIDTH / 2, at[1] + HEIGHT
        way = f"C{x1:g} {y1 + GAP_Y:g} {x2:g} {y2 - GAP_Y:g} {x2:g} {y2:g}"
    else:  # past the boxes between: out at the side
        x1, y1 = at[0] + (WIDTH if to[0] > at[0] else 0), at[1] + HEIGHT / 2
        way = f"C{x2:g} {y1:g} {x2:g} {y1:g} {x2:g} {y2:g}"
    return (
        f'<path data-from="{start}" data-to="{end}" d="M{x1:g} {y1:g}{way}" fill="none" stroke="#5f6b7a" '
        f'stroke-width="1.3" marker-end="url(#tip)"/>'
    )


def _box(name: str, says: str, corner: tuple[float, float]) -> str:
    x, y = corner
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef3fb" stroke="#3f6fb5"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 17:g}" text-anchor="middle" font-size="13" font-weight="bold" '
        f'fill="#17365f">{name}</text><text x="{x + WIDTH / 2:g}" y="{y + 32:g}" text-anchor="middle" '
        f'font-size="10.5" fill="#333333">{escape(says)}</text>'
    )


if __name__ == "__main__":
    DRAWING.write_text(draw(reduced(set(imports(SOURCE))), rooms(REPOSITORY)))
    print(f"written: {DRAWING.relative_to(REPOSITORY)}")
