"""Other people's runtimes that define, byte for byte, what an integer op computes.

None of them is needed to make code: what is not installed is listed as absent. They are C++ that
may abort the process on a model they dislike, so `isolated=True` runs them in one of their own.
"""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import DataError, ToolFailed, ToolMissing
from tinsmith.pipeline.graph import Array

Samples = Mapping[str | int, Array]
TIMEOUT_S = 600


class Session(Protocol):
    """A model loaded into a runtime; state is kept from call to call."""

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs for one sample; arrays of exactly the inputs' shapes and types."""
        ...

    def tensor(self, index: int) -> Array:
        """What a tensor of the main subgraph held after the last invoke."""
        ...


@dataclass(frozen=True)
class Oracle:
    """A runtime. `open` loads a .tflite; its tensors are kept only where `layers` is true."""

    name: str
    package: str
    open: Callable[[bytes, bool], Session]

    def run(
        self, model: bytes, samples: Samples, *, stateful: bool = False, isolated: bool = False
    ) -> list[Array]:
        """The outputs, in the file's order, as arrays [N, *output shape].

        samples: arrays [N, *input shape] by the input's name or index; a sample may leave out
            dimensions of 1.
        stateful: keep the state from sample to sample; else each sample starts afresh.
        isolated: in a process of its own; ToolFailed where that dies. Errors of the runtime itself
            are ToolFailed too.
        """
        if isolated:
            outputs: list[Array] = _in_process(self.name, "run", model, samples, stateful)
            return outputs
        info = read_info(model)
        arrays = [_samples_of(info, samples, i) for i in range(len(info.inputs))]
        count = min((len(a) for a in arrays), default=1)
        session = self._open(model, False)
        collected: list[list[Array]] = []
        for n in range(count):
            if n and info.has_state and not stateful:
                session = self._open(model, False)
            collected.append(self._invoke(session, [a[n] for a in arrays]))
        return [np.stack(parts) for parts in zip(*collected, strict=True)]

    def run_layers(
        self, model: bytes, sample: Samples, *, isolated: bool = False
    ) -> dict[str, Array]:
        """Every tensor that the main subgraph computes, by name, for one sample.

        sample: arrays [*input shape] by the input's name or index.
        """
        if isolated:
            layers: dict[str, Array] = _in_process(self.name, "run_layers", model, sample, False)
            return layers
        info = read_info(model)
        one = {key: np.asarray(value)[None] for key, value in sample.items()}
        session = self._open(model, True)
        inputs = [_samples_of(info, one, i)[0] for i in range(len(info.inputs))]
        self._invoke(session, inputs)
        return {name: session.tensor(i) for i, name in info.computed.items()}

    def run_all_layers(
        self, model: bytes, samples: Samples, *, stateful: bool = False, isolated: bool = False
    ) -> dict[str, Array]:
        """Every tensor that the main subgraph computes, [N, *shape] by name; arguments as `run`."""
        if isolated:
            made: dict[str, Array] = _in_process(
                self.name, "run_all_layers", model, samples, stateful
            )
            return made
        info = read_info(model)
        arrays = [_samples_of(info, samples, i) for i in range(len(info.inputs))]
        session = self._open(model, True)
        rows: dict[str, list[Array]] = {name: [] for name in info.computed.values()}
        for n in range(min((len(a) for a in arrays), default=1)):
            if n and info.has_state and not stateful:
                session = self._open(model, True)
            self._invoke(session, [a[n] for a in arrays])
            for index, name in info.computed.items():
                rows[name].append(session.tensor(index))
        return {name: np.stack(values) for name, values in rows.items()}

    def _open(self, model: bytes, layers: bool) -> Session:
        try:
            return self.open(model, layers)
        except (RuntimeError, ValueError) as e:
            raise ToolFailed(f"{self.name} refuses the model: {e}") from e

    def _invoke(self, session: Session, inputs: Sequence[Array]) -> list[Array]:
        try:
            return session.invoke(inputs)
        except (RuntimeError, ValueError) as e:
            raise ToolFailed(f"{self.name} fails to run the model: {e}") from e


# What the runtimes' own interfaces don't tell alike


@dataclass(frozen=True)
class ModelInfo:
    """Of the main subgraph: inputs as (name, shape), names of computed tensors by index."""

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    computed: Mapping[int, str]
    has_state: bool
    arena_bytes: int


_TYPE_BYTES = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
    schema.TensorType.INT16: 2,
    schema.TensorType.FLOAT16: 2,
}


def read_info(model: bytes) -> ModelInfo:
    """Of a sound file; the importer is who checks files."""
    file = schema.Model.GetRootAs(model, 0)
    main = file.Subgraphs(0)
    names = [main.Tensors(i).Name().decode("utf-8", "replace") for i in range(main.TensorsLength())]
    inputs = tuple(
        (names[i], tuple(int(d) for d in np.atleast_1d(main.Tensors(i).ShapeAsNumpy())))
        for i in (main.Inputs(j) for j in range(main.InputsLength()))
    )
    computed = {}
    for i in range(main.OperatorsLength()):
        op = main.Operators(i)
        for j in range(op.OutputsLength()):
            index = op.Outputs(j)
            if main.Tensors(index).Type() != schema.TensorType.RESOURCE:
                computed[index] = names[index]
    total, variables = 0, False
    for s in range(file.SubgraphsLength()):
        graph = file.Subgraphs(s)
        for i in range(graph.TensorsLength()):
            tensor = graph.Tensors(i)
            shape = [tensor.Shape(k) for k in range(tensor.ShapeLength())]
            total += int(np.prod(shape, dtype=np.int64)) * _TYPE_BYTES.get(tensor.Type(), 1) + 512
            resource = tensor.Type() == schema.TensorType.RESOURCE
            variables = variables or tensor.IsVariable() or resource
        total += graph.OperatorsLength() * 1024
    # Twice: recordings, scratch buffers and per-channel constants also live in the arena.
    return ModelInfo(inputs, computed, variables, 2 * total + 65536)


def with_outputs(model: bytes, tensors: Sequence[int]) -> bytes:
    """The file with other tensors of the main subgraph as its outputs."""
    unpacked = schema.ModelT.InitFromPackedBuf(model, 0)
    unpacked.subgraphs[0].outputs = np.asarray(tensors, np.int32)
    unpacked.signatureDefs = None
    builder = flatbuffers.Builder(len(model) + 1024)
    builder.Finish(unpacked.Pack(builder), file_identifier=model[4:8])
    return bytes(builder.Output())


def _samples_of(info: ModelInfo, samples: Samples, i: int) -> Array:
    """The samples of input i as [N, *input shape]."""
    name, shape = info.inputs[i]
    key: str | int = name if name in samples else i
    if key not in samples:
        raise DataError(
            f"input '{name}' is missing; expected arrays [N, {', '.join(map(str, shape))}]"
        )
    array = np.asarray(samples[key])
    return np.ascontiguousarray(array.reshape(len(array), *shape))


# The runtimes


class _Tflm:
    def __init__(self, model: bytes, layers: bool) -> None:
        from tflite_micro import runtime

        config = runtime.InterpreterConfig
        self._info = read_info(model)
        self._outputs = schema.Model.GetRootAs(model, 0).Subgraphs(0).OutputsLength()
        self._interpreter: Any = runtime.Interpreter.from_bytes(
            model,
            arena_size=self._info.arena_bytes,
            intrepreter_config=config.kPreserveAllTensors
            if layers
            else config.kAllocationRecording,
        )

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        for i, value in enumerate(inputs):
            self._interpreter.set_input(value, i)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(i)) for i in range(self._outputs)]

    def tensor(self, index: int) -> Array:
        return np.array(self._interpreter.GetTensor(index, 0)["tensor_data"])


class _TfliteRef:
    def __init__(self, model: bytes, layers: bool) -> None:
        from tflite_runtime.interpreter import Interpreter, OpResolverType

        # Some kernels work in place even where all tensors are to be preserved, but not on outputs.
        self._layers: dict[int, int] = {}
        if layers:
            computed = list(read_info(model).computed)
            self._layers = {index: i for i, index in enumerate(computed)}
            model = with_outputs(model, computed)
        self._interpreter: Any = Interpreter(
            model_content=model,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        )
        self._interpreter.allocate_tensors()
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        for index, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def tensor(self, index: int) -> Array:
        return np.array(self._interpreter.get_tensor(self._outputs[self._layers[index]]))


def tflm(model: bytes, layers: bool = False) -> Session:
    """The model in tflite-micro, the first oracle."""
    return _Tflm(model, layers)


def tflite_ref(model: bytes, layers: bool = False) -> Session:
    """The model in tflite-runtime with its reference kernels, the oracle where TFLM lacks an op."""
    return _TfliteRef(model, layers)


TFLM = Oracle("tflite-micro", "tflite_micro", tflm)
TFLITE_REF = Oracle("tflite-runtime", "tflite_runtime", tflite_ref)
ORACLES: tuple[Oracle, ...] = (TFLM, TFLITE_REF)


def installed_oracles() -> dict[str, Oracle]:
    """The oracles that can run here, by name."""
    return {o.name: o for o in ORACLES if importlib.util.find_spec(o.package) is not None}


def absent_oracles() -> dict[str, str]:
    """The oracles that are not installed: name to the command that installs it."""
    here = installed_oracles()
    return {o.name: f"pip install {o.name}" for o in ORACLES if o.name not in here}


def oracle(name: str) -> Oracle:
    """An installed oracle by name; ToolMissing where it is not installed."""
    here = installed_oracles()
    if name not in here:
        known = ", ".join(o.name for o in ORACLES)
        raise ToolMissing(
            f"the oracle {name} is not installed (known: {known}); run: pip install {name}"
        )
    return here[name]


# A process of its own


def _in_process(name: str, what: str, model: bytes, samples: Samples, stateful: bool) -> Any:
    with tempfile.TemporaryDirectory(prefix="tinsmith-oracle-") as folder:
        request, answer = Path(folder, "request"), Path(folder, "answer")
        request.write_bytes(pickle.dumps((name, what, model, dict(samples), stateful)))
        command = [sys.executable, "-m", "tinsmith.pipeline.oracles", str(request), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as e:
            raise ToolFailed(f"{name} did not end within {TIMEOUT_S} s") from e
        if done.returncode == 0 and answer.exists():
            ok, value = pickle.loads(answer.read_bytes())
            if ok:
                return value
            raise value
        tail = done.stderr.decode("utf-8", "replace").strip().splitlines()[-3:]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise ToolFailed(f"{name} ended with {how} on this model: {' / '.join(tail)}")


def _serve(request: Path, answer: Path) -> None:
    name, what, model, samples, stateful = pickle.loads(request.read_bytes())
    chosen = oracle(name)
    result: tuple[bool, Any]
    try:
        if what == "run":
            result = (True, chosen.run(model, samples, stateful=stateful))
        elif what == "run_all_layers":
            result = (True, chosen.run_all_layers(model, samples, stateful=stateful))
        else:
            result = (True, chosen.run_layers(model, samples))
    except (ToolFailed, DataError) as e:
        result = (False, type(e)(str(e)))
    answer.write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
