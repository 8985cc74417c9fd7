"""Loops that run once, taken out of generated C: their body stands alone, their index is 0, and
what would have been for a next round goes."""

from __future__ import annotations

import re

_LOOP = re.compile(r"^( *)for \(int32_t (\w+) = 0; \2 < 1; \2\+\+\) \{$")
_DECLARED = re.compile(r"^ *(?:const )?\w+ \*?(?:const )?(\w+)(?:\[[^\]]*\])?(?: = .*|;)$")
_NAME = re.compile(r"\b[a-z_]\w*\b")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_ADVANCE = re.compile(r"^    \w+ \+= [^=]*;$")  # of a pointer of the function's own
# Sums with a term of 0 times something, and parentheses that are left around a single term.
_PLAINER = (
    (re.compile(r"(?<=[(\[])0(?: \* \w+)* \+ "), ""),
    (re.compile(r" \+ 0(?: \* \w+)*(?=[)\];]| [+-] )"), ""),
    (re.compile(r"(?<== )0(?: \* \w+)* - (?=\w)"), "-"),
    (re.compile(r"(?<== )0 \* \w+;$", re.MULTILINE), "0;"),
    (re.compile(r"\(\(([^()]*)\)\)"), r"(\1)"),
    (re.compile(r"(?<=[(\[])\((\w+)\)(?= \*)"), r"\1"),
)


def without_single_loops(function: str) -> str:
    """The text of a function with its loops of one round unwrapped, where that keeps it the same.

    A loop stays where its body leaves it early, where its index is used in another way than in a
    sum, where a variable of its body has a name that is used elsewhere in the function, or where
    one from outside would not be read any more.
    """
    lines = function.split("\n")
    at = 0
    while at < len(lines):
        found = _LOOP.match(lines[at])
        body = _body(lines, at, found.group(1)) if found else None
        if found is None or body is None:
            at += 1
            continue
        end = at + len(body) + 1
        plain = _unwrapped(body, found.group(2), lines[:at] + lines[end + 1 :])
        if plain is None:
            at += 1
        else:
            lines[at : end + 1] = plain
            lines = _without_advances(lines)
    return "\n".join(lines)


def _without_advances(lines: list[str]) -> list[str]:
    """Without the last statements of the function, where they only move on what nobody reads.

    One stays where a parameter would not be used any more without it.
    """
    end = len(lines)
    while end and lines[end - 1] in ("", "}"):
        end -= 1
    kept = end
    while kept and _ADVANCE.match(lines[kept - 1]):
        kept -= 1
    opened = lines.index("{") if "{" in lines else 0
    body = {*_NAME.findall("\n".join(lines[opened:kept]))}
    if not {*_NAME.findall("\n".join(lines[kept:end]))} <= body:
        return lines
    return lines[:kept] + lines[end:]


def _body(lines: list[str], at: int, indent: str) -> list[str] | None:
    """The lines between a loop's first and its closing brace."""
    for end in range(at + 1, len(lines)):
        if lines[end] == f"{indent}}}":
            return lines[at + 1 : end]
    return None


def _unwrapped(body: list[str], index: str, others: list[str]) -> list[str] | None:
    text = "\n".join(line[4:] if line.startswith("    ") else line for line in body)
    if re.search(r"\b(continue|break|goto|return)\b", text):
        return None
    text = re.sub(rf"\b{index}\b", "0", text)
    before = ""
    while text != before:
        before = text
        for pattern, plainer in _PLAINER:
            text = pattern.sub(plainer, text)
    if re.search(r"\b0 \*|\* 0\b|\b0 \+ ", text):
        return None
    rest = _COMMENT.sub("", "\n".join(others))
    lost = {*_NAME.findall("\n".join(body))} - {*_NAME.findall(text)}
    if any(re.search(rf"\b{n}\b", rest) and not _is_read(n, rest) for n in lost):
        return None
    depth = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
    for line in body:
        declared = _DECLARED.match(line)
        own = declared and len(line) - len(line.lstrip()) == depth
        if declared and own and re.search(rf"\b{declared.group(1)}\b", rest):
            return None
    return text.split("\n")


def _is_read(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\b(?! [-+*]?= )", text) is not None
