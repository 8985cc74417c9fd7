"""What `tinsmith sensitivity` shows: tables in the terminal, panels of a picture."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from tinsmith.pipeline.insight.sensitivity import KINDS, Sensitivity, table_rows
from tinsmith.pipeline.report.line_chart import Panel
from tinsmith.pipeline.report.tables import simple_table


def panels_of(found: Sensitivity) -> list[Panel]:
    """A panel for each kind that was tried: accuracy over the levels, a line for each layer."""
    panels = []
    for name, kind in KINDS.items():
        rows = table_rows(found, name)
        if rows:
            lines = {
                layer: [None if d is None else round(found.accuracy - d, 4) for d in drops]
                for layer, drops in rows
            }
            levels = tuple(kind.level_text(level) for level in kind.levels)
            panels.append(Panel(kind.title, levels, lines))
    return panels


def print_sensitivity(console: Console, found: Sensitivity) -> None:
    """A row for each layer: the points of accuracy that it loses at every level of every kind."""
    kinds = {name: kind for name, kind in KINDS.items() if table_rows(found, name)}
    heads = [
        (f"{name} {kind.level_text(level)}", "right")
        for name, kind in kinds.items()
        for level in kind.levels
    ]
    drops = {name: dict(table_rows(found, name)) for name in kinds}
    means = found.mean_drops()
    table = simple_table(
        ("layer", "left"), *heads, ("mean", "right"),
        title=f"Points of accuracy that {found.model} loses where one layer alone is made smaller",
    )  # fmt: skip
    for layer in found.layers():
        cells = [
            _points(value)
            for name, kind in kinds.items()
            for value in drops[name].get(layer, [None] * len(kind.levels))
        ]
        table.add_row(Text(layer), *cells, _points(means[layer]))
    console.print(table)
    console.print(
        f"{found.accuracy:.2f} % as it is, on {found.samples:,} {found.evidence}; nothing was "
        "trained after a change",
        markup=False,
    )
    for reason in found.left_out:
        console.print(f"left out: {reason}", markup=False)
    spare = ", ".join(found.to_spare())
    console.print(f"to spare: {spare or 'no layer minds much more than the others'}", markup=False)


def _points(drop: float | None) -> str:
    return "-" if drop is None else f"{drop:.1f}"
