"""Feeds damaged and hostile model files to what `tinsmith analyze` does; none may get it down.

    python tests/fuzz_models.py --count 200000

A file may be read, or refused with an error meant for users: within the seconds and the memory, and
never by another exception or the end of the process. What fails is kept as a file, with its number,
from which it comes again. Exit code 1 where something failed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

# One thread: a pool of threads that is forked, and may not grow, can wait for ever.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from support.random_network import random_network
from tinsmith.pipeline.analysis import analyze
from tinsmith.pipeline.errors import TinsmithError
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.model_files import read_model
from tinsmith.targets.target import target_named

SECONDS = 2.0  # of the processor
PATIENCE = 5 * SECONDS  # of the clock, on a machine that does other things as well
HANGING = 60.0  # of the clock, until a process that tells nothing is ended
MEMORY_BYTES = 1 << 30  # above what the process has when it starts
CHUNK = 500  # files a process
OPS = (
    "conv2d", "depthwise_conv2d", "fully_connected", "add", "pad", "mean", "reshape", "softmax",
    "concatenation", "split", "slice", "mul", "max_pool2d", "average_pool2d", "transpose",
    "logistic",
)  # fmt: skip
WORDS = (0, 1, 4, 0xFF, 0xFFFF, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
SIZES = (-(2**31), -2, -1, 0, 1, 2, 3, 7, 255, 65536, 2**20, 2**31 - 1)
SCALES = (0.0, -1.0, 1e-45, 1e-30, 1e30, 3e38, float("inf"), float("-inf"), float("nan"))

Rng = np.random.Generator


def seeds() -> dict[str, list[bytes]]:
    """Sound files of both formats, small, so that damage hits what matters."""
    graphs = [random_network(n, list(OPS)) for n in range(8)]
    found: dict[str, list[bytes]] = {"tflite": [to_tflite(g) for g in graphs], "onnx": []}
    for graph in graphs:
        try:
            found["onnx"].append(to_onnx_qdq(graph))
        except TinsmithError:
            continue  # what ONNX can't say
    shared = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "models"
    extra = [*shared.glob("tflm/*.tflite"), *shared.glob("microwakeword_v2/*.tflite")]
    found["tflite"] += [p.read_bytes() for p in extra if p.stat().st_size < 70_000]
    return found


# Damage to bytes


def damage_bytes(data: bytes, rng: Rng) -> bytes:
    """Bits flipped, words replaced, and pieces cut, doubled, moved or filled."""
    out = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 4, 16, 64]))):
        if len(out) < 16:
            break
        at, kind = int(rng.integers(0, len(out) - 8)), int(rng.integers(0, 8))
        length = int(rng.choice([1, 4, 16, 256]))
        if kind < 3:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 3:
            out[at : at + 4] = int(rng.choice(WORDS)).to_bytes(4, "little")
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length]
        elif kind == 6:
            out[at : at + length] = bytes([int(rng.integers(0, 256))]) * length
        else:
            source = int(rng.integers(0, len(out) - 8))
            out[at : at + length] = out[source : source + length]
    return bytes(out)


def cut_short(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


# Damage to what a file says


def damage_tflite(data: bytes, rng: Rng) -> bytes:
    """Fields of tensors, quantizations, operators, options, buffers and subgraphs replaced."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for _ in range(int(rng.integers(1, 4))):
        graph = model.subgraphs[int(rng.integers(0, len(model.subgraphs)))]
        _TFLITE_DAMAGE[int(rng.integers(0, len(_TFLITE_DAMAGE)))](model, graph, rng)
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _pick(items: Sequence[Any], rng: Rng) -> Any:
    return items[int(rng.integers(0, len(items)))]


def _shape(model: Any, graph: Any, rng: Rng) -> None:
    tensor = _pick(graph.tensors, rng)
    shape = [] if tensor.shape is None else [int(d) for d in tensor.shape]
    kind = int(rng.integers(0, 4))
    if kind == 0 or not shape:
        shape.insert(int(rng.integers(0, len(shape) + 1)), int(rng.choice(SIZES)))
    elif kind == 1:
        shape[int(rng.integers(0, len(shape)))] = int(rng.choice(SIZES))
    elif kind == 2:
        shape.pop()
    else:
        shape = [int(rng.choice(SIZES)) for _ in range(int(rng.integers(0, 9)))]
    tensor.shape = np.asarray(shape, np.int32)


def _type(model: Any, graph: Any, rng: Rng) -> None:
    _pick(graph.tensors, rng).type = int(rng.integers(0, 20))


def _quantization(model: Any, graph: Any, rng: Rng) -> None:
    tensor = _pick(graph.tensors, rng)
    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
    quant, kind = tensor.quantization, int(rng.integers(0, 5))
    count = int(rng.choice([0, 1, 2, 3, 4, 8, 1000]))
    if kind == 0:
        quant.scale = np.full(count, rng.choice(SCALES), np.float32)
    elif kind == 1:
        quant.zeroPoint = np.full(count, int(rng.choice(SIZES)), np.int64)
    elif kind == 2:
        quant.quantizedDimension = int(rng.choice(SIZES))
    elif kind == 3:
        quant.scale = None
    else:
        tensor.quantization = None


def _wiring(model: Any, graph: Any, rng: Rng) -> None:
    """Tensors joined otherwise: cycles, indices out of range, too many or too few."""
    op = _pick(graph.operators, rng)
    index = int(rng.choice([int(rng.integers(-2, len(graph.tensors) + 2)), int(rng.choice(SIZES))]))
    field = "inputs" if rng.integers(0, 3) else "outputs"
    wires = getattr(op, field)
    wires = [] if wires is None else [int(i) for i in wires]
    kind = int(rng.integers(0, 3))
    if kind == 0 and wires:
        wires[int(rng.integers(0, len(wires)))] = index
    elif kind == 1:
        wires.append(index)
    elif wires:
        wires.pop()
    setattr(op, field, np.asarray(wires, np.int32))


def _opcode(model: Any, graph: Any, rng: Rng) -> None:
    if rng.integers(0, 2):
        _pick(graph.operators, rng).opcodeIndex = int(rng.integers(0, len(model.operatorCodes) + 2))
        return
    code = _pick(model.operatorCodes, rng)
    code.builtinCode = int(rng.integers(0, 200))
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)


def _options(model: Any, graph: Any, rng: Rng) -> None:
    op = _pick(graph.operators, rng)
    if op.builtinOptions is None:
        op.builtinOptionsType = int(rng.integers(0, 120))
        return
    names = [k for k, v in vars(op.builtinOptions).items() if isinstance(v, int)]
    if names:
        field = _pick(names, rng)
        setattr(op.builtinOptions, field, int(rng.choice([-1, 0, 1, 2, 3, 100, 127])))


def _buffer(model: Any, graph: Any, rng: Rng) -> None:
    buffer = _pick(model.buffers, rng)
    if buffer.data is None or rng.integers(0, 3) == 0:
        _pick(graph.tensors, rng).buffer = int(rng.integers(0, len(model.buffers) + 3))
        return
    data = np.asarray(buffer.data, np.uint8)
    if rng.integers(0, 2):
        buffer.data = data[: int(rng.integers(0, len(data) + 1))]
    else:  # integers such as shapes, axes and pads become anything
        words = rng.choice(np.asarray(SIZES, np.int64), max(1, len(data) // 4)).astype(np.int32)
        buffer.data = np.frombuffer(words.tobytes(), np.uint8)


def _ports(model: Any, graph: Any, rng: Rng) -> None:
    field = "inputs" if rng.integers(0, 2) else "outputs"
    count = int(rng.integers(0, 4))
    wires = [int(rng.integers(-1, len(graph.tensors) + 1)) for _ in range(count)]
    setattr(graph, field, np.asarray(wires, np.int32))


_TFLITE_DAMAGE: tuple[Callable[[Any, Any, Rng], None], ...] = (
    _shape, _type, _quantization, _wiring, _opcode, _options, _buffer, _ports,
)  # fmt: skip


def damage_onnx(data: bytes, rng: Rng) -> bytes:
    """Fields of nodes, attributes, constants and value infos replaced."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(0, 8))
        node, constant = _pick(graph.node, rng), _pick(graph.initializer, rng)
        if kind == 0:
            dims = constant.dims
            if len(dims) and rng.integers(0, 2):
                dims[int(rng.integers(0, len(dims)))] = int(rng.choice(SIZES))
            else:
                dims.insert(0, int(rng.choice(SIZES)))
        elif kind == 1:
            constant.data_type = int(rng.integers(0, 24))
        elif kind == 2 and constant.raw_data:
            raw = constant.raw_data
            words = rng.choice(np.asarray(SIZES, np.int64), max(1, len(raw) // 8))
            cut = raw[: int(rng.integers(0, len(raw)))]
            constant.raw_data = cut if rng.integers(0, 2) else words.tobytes()
        elif kind == 3 and len(node.input):
            names = [o for n in graph.node for o in n.output] + [i.name for i in graph.initializer]
            node.input[int(rng.integers(0, len(node.input)))] = str(_pick([*names, "", "?"], rng))
        elif kind == 4 and len(node.output):
            node.output[0] = str(_pick([n.output[0] for n in graph.node], rng))
        elif kind == 5:
            node.op_type = str(_pick(["Conv", "Reshape", "Slice", "Resize", "If", "LSTM", "Pad",
                                      "Expand", "MatMul", "Gather", "", "?"], rng))  # fmt: skip
        elif kind == 6 and len(node.attribute):
            attribute = _pick(node.attribute, rng)
            attribute.i = int(rng.choice(SIZES))
            if len(attribute.ints):
                attribute.ints[0] = int(rng.choice(SIZES))
        elif kind == 7:
            shape = _pick(graph.input, rng).type.tensor_type.shape
            if len(shape.dim):
                _pick(shape.dim, rng).dim_value = int(rng.choice(SIZES))
    return bytes(model.SerializeToString())


def mutant(files: dict[str, list[bytes]], seed: int, number: int) -> tuple[str, bytes]:
    """(format, bytes) of a damaged file: always the same for a seed and a number."""
    rng = np.random.default_rng([seed, number])
    kind = "tflite" if rng.integers(0, 2) else "onnx"
    data = _pick(files[kind], rng)
    way = int(rng.integers(0, 10))
    if way == 0:
        return kind, cut_short(data, rng)
    if way < 5:
        return kind, damage_bytes(data, rng)
    # Some damage the writers of the formats can't even write; then the file stays as it is.
    with contextlib.suppress(ValueError, TypeError, OverflowError, struct.error):
        data = damage_tflite(data, rng) if kind == "tflite" else damage_onnx(data, rng)
    return kind, damage_bytes(data, rng) if way == 9 else data


# Running


class TooSlow(BaseException):
    """The time is over; no handler of errors catches it."""


@dataclass(frozen=True)
class Outcome:
    """kind: "read", "refused", or what went wrong."""

    number: int
    kind: str
    detail: str = ""


def run_one(path: Path, number: int) -> Outcome:
    """Reads and analyzes a file as `tinsmith analyze -t cortex-m4` does."""
    start = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            analyze(read_model(path).graph, target_named("cortex-m4"))
            outcome = Outcome(number, "read")
        except TinsmithError:
            outcome = Outcome(number, "refused")
        except (Exception, RecursionError):
            outcome = Outcome(number, "traceback", traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TooSlow:
        return Outcome(number, "too slow", f"over {PATIENCE} s")
    seconds = time.process_time() - start
    if seconds > SECONDS:
        return Outcome(number, "too slow", f"{seconds:.1f} s")
    return outcome


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def serve(pipe: Connection, seed: int, numbers: range, folder: Path) -> None:
    """A process of its own: sends an Outcome for each number, in order."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    files = seeds()
    for path in (folder / "warm.tflite", folder / "warm.onnx"):
        path.write_bytes(files[path.suffix[1:]][0])
        run_one(path, 0)  # what is imported on first use does not count
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    for number in numbers:
        kind, data = mutant(files, seed, number)
        path = folder / f"{number}.{kind}"
        path.write_bytes(data)
        outcome = run_one(path, number)
        pipe.send(outcome)
        if outcome.kind in ("read", "refused"):
            path.unlink()
    pipe.close()


def run_chunk(seed: int, numbers: range, folder: Path) -> list[Outcome]:
    """The outcomes of a chunk; where the process dies, of the files before and after as well."""
    found: list[Outcome] = []
    while len(found) < len(numbers):
        receive, send = multiprocessing.Pipe(duplex=False)
        rest = numbers[len(found) :]
        process = multiprocessing.Process(target=serve, args=(send, seed, rest, folder))
        process.start()
        send.close()
        try:
            while receive.poll(HANGING):
                found.append(receive.recv())
            # No alarm reaches what hangs within compiled code.
            process.kill()
            process.join()
            found.append(Outcome(numbers[len(found)], "too slow", f"hung for {HANGING} s"))
            continue
        except EOFError:
            process.join()
        if process.exitcode and len(found) < len(numbers):
            number = numbers[len(found)]
            found.append(Outcome(number, "process died", f"exit code {process.exitcode}"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first number")
    parser.add_argument("--keep", type=Path, help="where files that fail are kept")
    chosen = parser.parse_args(arguments)
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="tinsmith-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for start in range(chosen.start, chosen.start + chosen.count, CHUNK):
        end = min(start + CHUNK, chosen.start + chosen.count)
        for outcome in run_chunk(chosen.seed, range(start, end), folder):
            counts[outcome.kind] += 1
            if outcome.kind not in ("read", "refused"):
                print(f"{outcome.number}: {outcome.kind}\n{outcome.detail}", flush=True)
        minutes = (time.monotonic() - began) / 60
        print(f"{end - chosen.start} files, {minutes:.1f} min: {dict(counts)}", flush=True)
    failed = sum(n for kind, n in counts.items() if kind not in ("read", "refused"))
    if failed:
        print(f"{failed} files failed; they are in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.exit(main())
