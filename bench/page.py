"""The page of results: every benchmark keeps its own section of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
DATA = ROOT.parent / "shared" / "data"


def marks(name: str) -> tuple[str, str]:
    """The lines between which a section stands."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def write_section(page: Path, name: str, text: str) -> None:
    """Puts a section between its marks; the rest of the page stays as it is."""
    begin, end = marks(name)
    old = page.read_text() if page.exists() else "# Benchmarks\n"
    block = f"{begin}\n{text}\n{end}"
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        page.write_text(before + block + rest.split(end, 1)[1])
    else:
        page.write_text(f"{old.rstrip()}\n\n{block}\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown; all columns but the first are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def millions(count: int) -> str:
    return f"{count / 1e6:.3f}M"
