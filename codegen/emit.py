"""Emission: a program to C sources, by templates. It knows no op by name.

The same program gives the same bytes: no dates, no paths, no hashes of memory addresses.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.arenas import arena_facts, arena_name, arenas_used, section_macro
from tinsmith.codegen.kernels.packing import c_comment, c_identifier, shape_text
from tinsmith.codegen.kernels.tiles import TILES
from tinsmith.codegen.literals import COLUMNS, number, rows
from tinsmith.codegen.program import C_TYPES, BufferView, Constant, Program, Step
from tinsmith.codegen.single_loops import without_single_loops
from tinsmith.pipeline.graph import DType

HELPERS = (
    "copy_words",
    "copy_run",
    "high_multiply",
    "round_shift",
    "requantize_right",
    "requantize",
    "clamp",
    "dot_two",
    "sigmoid_q15",
    "tanh_q15",
    "sigmoid_scaled",
    "high_word",
    "high_word_shift",
    "scale_sum",
    "interpolated",
    "shift_saturated",
    "inverse_root",
    "log_of_sum",
    "load_word",
    "even_bytes",
    "odd_bytes",
    "low_halves",
    "high_halves",
    "dual_multiply",
    "load_pair",
    "pair_products",
    "copy_values",
    "fill_zeros",
    "dot_two_by_two",
    "dot_four_rows",
    "append_sums",
    "widen",
    "fill_pairs",
    "copy_bytes",
    "copy_each",
    "fill_bytes",
    "clamp_multiply",
    "mirrored_multiply",
    "half_sums",
    "half_differences",
    "fill_row",
    "fill_words",
    "winograd_patch",
    "one_multiply",
    "high_multiply_shift",
)
C_KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "main",
    ]
)


@dataclass(frozen=True)
class Sources:
    """What `emit` makes. model: the files that a firmware compiles; weight_symbols: arrays in them
    that count as weights."""

    name: str
    model: Mapping[str, str]
    weight_symbols: frozenset[str]


@dataclass(frozen=True)
class _Function:
    name: str
    text: str


def model_name(text: str) -> str:
    """A C identifier for a model's public names, made of any text."""
    name = c_identifier(text, 48)
    return f"{name}_model" if name in C_KEYWORDS else name


def emit(program: Program, *, trace: bool = False) -> Sources:
    """The model's C files.

    trace: each step is followed by a call of `tinsmith_trace(step, data, bytes)`, which the harness
    of an emulator defines; the memory plan and the kernels are the same.
    """
    env = environment()
    functions, calls = _functions(program, env)
    kernels = "\n".join(f.text for f in functions)
    inputs = [port_facts(program.graph.tensors[n].name, v) for n, v in program.inputs]
    outputs = [port_facts(program.graph.tensors[n].name, v) for n, v in program.outputs]
    states = [_state(i, s.name, s.view, s.initial) for i, s in enumerate(program.state)]
    arenas = arena_facts(program)
    ports = {"input": inputs, "output": outputs, "reset": states}
    texts = {f: " ".join(port["address"] for port in of) for f, of in ports.items()}
    texts |= {"run": " ".join(calls), "invoke": texts["input"] + texts["output"]}
    context = {
        "program": program,
        "name": program.name,
        "upper": program.name.upper(),
        "generator": f"tinsmith {version('tinsmith')}",
        "model": c_comment(program.graph.name),
        "inputs": inputs,
        "outputs": outputs,
        "states": states,
        "constants": [_array(c, program.name.upper()) for c in program.constants],
        "flashes": [(m, section_macro(program.name.upper(), m.name)) for m in program.flashes],
        "helpers": _helpers(kernels, env),
        "kernels": kernels,
        "steps": _calls(program, calls),
        "trace": trace,
        **arenas,
        "users": arenas_used(arenas["arenas"], texts),
        "input_type": _common_type([v for _, v in program.inputs]),
        "output_type": _common_type([v for _, v in program.outputs]),
    }
    files = {
        f"{program.name}.h": env.get_template("model.h.j2").render(context),
        f"{program.name}.c": env.get_template("model.c.j2").render(context),
        f"{program.name}_weights.h": env.get_template("weights.h.j2").render(context),
    }
    weights = frozenset(c.name for c in program.constants if c.role == "weights")
    return Sources(program.name, files, weights)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, read strictly: an undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("tinsmith.codegen", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _calls(program: Program, calls: Sequence[str]) -> list[dict[str, Any]]:
    """The calls of run as the template sees them: rounds where a loop opens, closes where it
    ends."""
    opens = {loop.first: loop.rounds for loop in program.loops}
    closes = {loop.end - 1 for loop in program.loops}
    inside = {k for loop in program.loops for k in range(loop.first, loop.end)}
    return [
        {
            "summary": s.summary,
            "call": c.replace("\n", "\n    ") if i in inside else c,
            "index": i,
            "rounds": opens.get(i, 0),
            "in": "    " if i in inside else "",
            "closes": i in closes,
            "traced": s.is_layer,
            "nbytes": s.outs[0].nbytes,
            "out": at(s.outs[0], "const int8_t"),
        }
        for i, (s, c) in enumerate(zip(program.steps, calls, strict=True))
    ]


class _Fields:
    """The fields of a kernel as its template sees them; remembers which were asked for."""

    def __init__(self, fixed: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
        self._fixed, self._shape = fixed, shape
        self.used: set[str] = set()

    def __getattr__(self, field: str) -> Any:
        if field in self._fixed:
            return self._fixed[field]
        self.used.add(field)
        return self._shape[field]


def _functions(program: Program, env: jinja2.Environment) -> tuple[list[_Function], list[str]]:
    """The kernels' functions, each once, and the call of every step.

    Steps share a function where template and fixed fields agree; shape fields that differ among
    them become parameters.
    """
    groups: dict[str, list[Step]] = {}
    keys = _keys(program)
    for key, step in zip(keys, program.steps, strict=True):
        groups.setdefault(key, []).append(step)
    # A layer may be called as a kernel is, and its arrays as a kernel's function.
    taken: set[str] = {c.name for c in program.constants}
    functions: list[_Function] = []
    call_by_key: dict[str, tuple[str, list[str]]] = {}
    for key, steps in groups.items():
        name, i = steps[0].kernel, 2
        while name in taken:
            name, i = f"{steps[0].kernel}_{i}", i + 1
        taken.add(name)
        text, parameters = _render(name, steps, env)
        if _stays_a_call(program, steps):
            text = text.replace("static void ", "static __attribute__((noinline)) void ", 1)
        functions.append(_Function(name, text))
        call_by_key[key] = (name, parameters)
    calls = [_call(s, *call_by_key[key]) for s, key in zip(program.steps, keys, strict=True)]
    return functions, calls


def _stays_a_call(program: Program, steps: Sequence[Step]) -> bool:
    """Whether the compiler may not inline a kernel's function.

    One that is called for every stripe of a layer would be there as often; and on cores of few
    registers the frames of all kernels, inlined, would lie on the stack at once.
    """
    in_stripes = len({s.node.name for s in steps}) < len(steps)
    return in_stripes or _has_few_registers(program)


def _has_few_registers(program: Program) -> bool:
    """Whether what a function holds goes to the stack, and that matters more than a call."""
    return "m0" in program.isa and program.objective != "time"


def _keys(program: Program) -> list[str]:
    """By step, what steps of one function have in common.

    With few registers a layer in stripes has its function for itself: what differs from layer to
    layer would lie on the stack, as parameters and as numbers that run keeps for the next call.
    A literal plan has one for its shape, or for all stripes of its layer.
    """
    calls = Counter(s.node.name for s in program.steps)
    few = _has_few_registers(program)

    def own(step: Step) -> str:
        literal = step.plan.literal or (few and step.plan.literal_if_few)
        if step.is_layer and calls[step.node.name] > 1:
            return step.node.name if few or literal else ""
        if not literal or program.objective == "size":
            return ""
        return json.dumps(step.plan.shape, sort_keys=True)

    return [f"{own(s)}|{_key(s)}" for s in program.steps]


def _key(step: Step) -> str:
    fixed = json.dumps(step.plan.fixed, sort_keys=True, default=str)
    pointers = ",".join(f"{p.ctype} {p.name}" for p in step.plan.pointers)
    return f"{step.template}|{fixed}|{pointers}"


# Stands for the parameters until the text tells which there are.
_PARAMS = "@parameters@"


def _render(name: str, steps: Sequence[Step], env: jinja2.Environment) -> tuple[str, list[str]]:
    """The text of a function and the names of its integer parameters."""
    plan = steps[0].plan
    varying = [f for f in plan.shape if len({s.plan.shape[f] for s in steps}) > 1]
    shape = {f: f if f in varying else v for f, v in plan.shape.items()}
    fields = _Fields(plan.fixed, shape)
    template = env.get_template(f"kernels/{steps[0].template}.c.j2")
    text = without_single_loops(tidy(template.render(fn=name, params=_PARAMS, k=fields)))
    # Loops that run once are gone by now, and with them what only they read.
    body = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    parameters = [f for f in varying if f in fields.used and re.search(rf"\b{f}\b", body)]
    declared = [f"{p.ctype} *{p.name}" for p in plan.pointers]
    declared += [f"int32_t {f}" for f in parameters]
    params = _wrap(declared, len(f"static void {name}("))
    return text.replace(_PARAMS, params), parameters


def tidy(text: str) -> str:
    """Neutral arithmetic taken out of C text: `x * 1`, `x / 1`, `x + 0`, `x - 0`, `x + -3`."""
    number_end = r"(?![\w.(])"
    text = re.sub(rf" [*/] 1{number_end}", "", text)
    text = re.sub(rf" [+-] 0{number_end}(?! [*/])", "", text)
    text = re.sub(r" \+ -(\d)", r" - \1", text)
    return re.sub(r" - -(\d)", r" + \1", text)


def _call(step: Step, function: str, parameters: Sequence[str]) -> str:
    arguments = [_pointer(step, p.ctype, p.source) for p in step.plan.pointers]
    arguments += [str(step.plan.shape[f]) for f in parameters]
    return f"{function}({_wrap(arguments, len(function) + 5)});"


def _wrap(items: Sequence[str], indent: int) -> str:
    """Comma-separated items, broken before the line is full, continued at `indent`."""
    lines = [""]
    for i, item in enumerate(items):
        text = item + (", " if i + 1 < len(items) else "")
        if lines[-1] and indent + len(lines[-1]) + len(text) > COLUMNS:
            lines.append("")
        lines[-1] += text
    return ("\n" + " " * indent).join(line.rstrip() for line in lines)


def _pointer(step: Step, ctype: str, source: tuple[str, int]) -> str:
    kind, index = source
    if kind == "const":
        return step.plan.constants[index].name
    view = {"in": step.ins, "out": step.outs, "scratch": (step.scratch,)}[kind][index]
    assert view is not None, step.node.name
    return at(view, ctype)


def at(view: BufferView, ctype: str) -> str:
    """The C expression of a view's address as a pointer to `ctype`."""
    step = f" + {view.offset_step} * stripe" if view.offset_step else ""
    place = f"&{arena_name(view.region)}[{view.offset}{step}]"
    if ctype in ("int8_t", "const int8_t"):
        return place
    via = "const void *" if ctype.startswith("const") else "void *"
    return f"({ctype} *)({via}){place}"


def _helpers(kernels: str, env: jinja2.Environment) -> str:
    """The inline helpers and tiles that the text calls, with those that they call, helpers
    first."""
    calls = _names_called(kernels)
    tiles = _tiles(calls, env)
    module: Any = env.get_template("helpers.c.j2").module
    texts = {h: str(getattr(module, h)()).strip("\n") for h in HELPERS}
    own = _called(calls, texts)
    # What only the C models of tiles call would be unused where the assembly takes their place.
    modelled = [h for h in _called(calls | _names_called("".join(tiles)), texts) if h not in own]
    parts = [texts[h] for h in own]
    if modelled:
        guard = next(t.guard for t in TILES if t.name in calls)
        parts += [f"#ifndef {guard}", *(texts[h] for h in modelled), "#endif"]
    return "\n\n".join([*parts, *tiles])


def _called(calls: Set[str], texts: Mapping[str, str]) -> list[str]:
    """The helpers that are called, with those that they call, in the order of `texts`."""
    used: list[str] = []
    for helper in reversed(list(texts)):
        if helper in calls:
            used.insert(0, helper)
            calls = calls | _names_called(texts[helper])
    return used


def _names_called(text: str) -> set[str]:
    """What stands before a parenthesis."""
    return set(re.findall(r"\b(\w+)\(", text))


def _tiles(calls: Set[str], env: jinja2.Environment) -> list[str]:
    """The whole-loop functions that are called, and those that these call, after what they
    all need."""
    texts: list[str] = []
    for t in reversed(TILES):  # who is called stands before his callers
        if t.name in calls:
            text = env.get_template(t.template).render(name=t.name, **t.fields).strip("\n")
            texts.insert(0, tidy(text))
            calls = calls | _names_called(text)
    if not texts:
        return []
    module: Any = env.get_template("tiles/assembly.j2").module
    return [str(module.prelude()).strip("\n"), *texts]


def _common_type(views: Sequence[BufferView]) -> str:
    types = {C_TYPES[v.dtype] for v in views}
    return types.pop() if len(types) == 1 else "void"


def port_facts(tensor: str, view: BufferView) -> dict[str, Any]:
    """What the header says of an input or output."""
    meaning = ""
    if view.quant is not None and len(view.quant.scale) == 1:
        scale, zero = view.quant.scale[0], view.quant.zero_point[0]
        sign, magnitude = ("+", -zero) if zero < 0 else ("-", zero)
        meaning = f", real = {np.float32(scale)!s} * (q {sign} {magnitude})"
    return {
        "tensor": c_comment(tensor),
        "view": view,
        "ctype": C_TYPES[view.dtype],
        "size": int(np.prod(view.shape, dtype=np.int64)),
        "nbytes": view.nbytes,
        "shape": shape_text(view.shape),
        "meaning": meaning,
        "scale": None if view.quant is None else f"{np.float32(view.quant.scale[0])!s}",
        "zero_point": None if view.quant is None else view.quant.zero_point[0],
        "address": at(view, C_TYPES[view.dtype]),
        "const_address": at(view, f"const {C_TYPES[view.dtype]}"),
    }


def _state(index: int, name: str, view: BufferView, initial: NDArray[Any]) -> dict[str, Any]:
    values = initial.reshape(-1)
    uniform = bool(values.size) and bool(np.all(values == values[0]))
    return {
        "name": c_comment(name),
        # With a number, since names may differ by punctuation only, or be a word of C.
        "c_name": f"state{index}_{c_identifier(name)}",
        "ctype": C_TYPES[view.dtype],
        "size": int(values.size),
        "address": at(view, C_TYPES[view.dtype]),
        "value": number(values[0], view.dtype) if uniform else None,
        "rows": None if uniform else rows(values, view.dtype),
        "shape": shape_text(view.shape),
    }


def _array(constant: Constant, upper: str) -> dict[str, Any]:
    flat = constant.data.reshape(-1)
    return {
        "name": constant.name,
        "ctype": constant.ctype,
        "size": int(flat.size),
        "comment": c_comment(constant.comment),
        "rows": rows(flat, DType.of(flat) if flat.dtype.name in DType._value2member_map_ else None),
        "nbytes": constant.nbytes,
        "align": constant.align,
        "section_macro": section_macro(upper, constant.flash),
    }
