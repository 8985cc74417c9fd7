"""The front end for .tflite: read_tflite gives the Graph of a file, int8 or float."""

from __future__ import annotations

from pathlib import Path

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.tflite_file import FileOperator, FileSubgraph, read_file
from tinsmith.pipeline.frontends.tflite_import import DependsOnUnsupported, Importer
from tinsmith.pipeline.frontends.tflite_ops import OP_IMPORTERS
from tinsmith.pipeline.frontends.tflite_uint8 import without_uint8
from tinsmith.pipeline.frontends.tflite_uint8_rules import REMEDY, UINT8_RULES, check_uint8
from tinsmith.pipeline.graph import Graph, rebuild
from tinsmith.pipeline.verify import verify

# Operators that matter though nobody reads an output of theirs.
_EFFECTS = ("CALL_ONCE", "ASSIGN_VARIABLE")
# Operators whose other inputs only say what the file's declared shapes say as well.
_FIRST_INPUT_ONLY = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def read_tflite(source: Path | str | bytes, name: str | None = None) -> Graph:
    """The graph of a .tflite file, or of its bytes; padding explicit, constants folded.

    name: of the graph; by default the file's, without its suffix.
    Tensor names are kept where they are unique, and numbered where not; a node has a short name
    made of its first output's, also unique. Variables become state. What no output needs is left
    out.
    ModelError for a file that is absent, damaged or breaks the format's rules; UnsupportedModel,
    with every layer and reason in one message, for a sound model with what tinsmith lacks.
    """
    file = read_file(source, name)
    main, refused = without_uint8(file.subgraphs[0])
    importer = Importer(file, main)
    reasons: list[str] = []
    inputs = []
    for index in main.inputs:
        try:
            inputs.append(importer.add_input(index))
        except UnsupportedModel as e:
            reasons.append(f"input: {e}")
            importer.broken.add(index)
    for op in _needed(main):
        reason = refused.get(op.index) or _import(importer, op)
        if reason is not None:
            importer.pretend(op)
        if reason:
            reasons.append(f"{importer.label(op)}: {reason}")
    if reasons:
        raise UnsupportedModel(
            f"model '{file.name}' is sound, but has what is not supported:\n  "
            + "\n  ".join(reasons)
            + "\nReplace these layers and export again, or keep them outside of the model; "
            "`tinsmith ops` lists what is supported."
        )
    outputs = [importer.tensor(index).name for index in main.outputs]
    if not outputs:
        raise ModelError(f"model '{file.name}' has no output")
    graph = Graph(
        file.name,
        importer.tensors,
        importer.named_nodes(),
        tuple(inputs),
        tuple(outputs),
        importer.state(),
    )
    return verify(rebuild(graph))


def _import(importer: Importer, op: FileOperator) -> str | None:
    """Why an operator isn't imported: empty where an earlier one is the cause, None where it is."""
    run = OP_IMPORTERS.get(op.code)
    if run is None:
        return "the op is not supported"
    if op.as_uint8 and op.code not in UINT8_RULES:
        return f"in uint8 it computes otherwise than in int8; {REMEDY}"
    before = len(importer.nodes)
    try:
        run(importer, op)
        if op.as_uint8:
            check_uint8(importer, op, importer.nodes[before:])
    except UnsupportedModel as e:
        return str(e)
    except DependsOnUnsupported:
        return ""
    except ModelError:
        # Behind an unsupported layer, this may come of what was guessed of its outputs.
        if importer.pretended:
            return ""
        raise
    return None


def _needed(sub: FileSubgraph) -> list[FileOperator]:
    """The operators that an output or a variable depends on, in the file's order."""
    producers: dict[int, FileOperator] = {}
    for op in sub.operators:
        for index in op.outputs:
            if index in producers:
                raise ModelError(f"tensor {index} is computed by two operators")
            producers[index] = op
    wanted = list(sub.outputs)
    needed: set[int] = set()
    waiting = [op for op in sub.operators if op.code in _EFFECTS]
    seen: set[int] = set()
    while wanted or waiting:
        if waiting:
            op = waiting.pop()
            if op.index in needed:
                continue
            needed.add(op.index)
            count = 1 if op.code in _FIRST_INPUT_ONLY else len(op.inputs)
            wanted += [i for i in op.inputs[:count] if i >= 0]
        else:
            index = wanted.pop()
            if index not in seen and index in producers:
                waiting.append(producers[index])
            seen.add(index)
    return [op for op in sub.operators if op.index in needed]
