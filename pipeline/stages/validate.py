"""validate: the samples run on every target, and every byte is compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.program import Program
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.config import Config, Validate, c_name
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.stages.build import HOST
from tinsmith.pipeline.stages.common import (
    accuracies,
    confusion_matrix,
    read_for_device,
    read_integers,
    write_metrics,
)
from tinsmith.pipeline.stages.generate import (
    CODE_SOURCES,
    CODE_TOOLS,
    code_options,
    tuned_options,
)
from tinsmith.pipeline.tasks import Task, accuracy_metrics, label_columns

SANITIZED_SAMPLES = 50  # the sanitized build walks the same bytes; it is slower


@dataclass(frozen=True)
class ValidateTargets(Stage):
    """Writes validation.json: {target: the fields of `tinsmith validate`, accuracy in percent,
    confusion (row: true class; of several tasks by their names, and `tasks` has the accuracy of
    each), sanitizers (host only)}. What differs is written down, not raised:
    the report decides. Raises ToolMissing where `oracle = "required"` and none is installed.
    """

    name: ClassVar[str] = "validate"
    inputs: ClassVar[tuple[str, ...]] = ("load", "quantize", "build")
    sources: ClassVar[tuple[str, ...]] = CODE_SOURCES
    tools: ClassVar[tuple[str, ...]] = CODE_TOOLS

    options: Validate
    targets: tuple[str, ...]
    code: CodeOptions
    c_name: str

    @classmethod
    def from_config(cls, config: Config) -> Self:
        options = config.generate
        return cls(config.validation, tuple(options.targets), code_options(config), c_name(config))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        from tinsmith.codegen.emit import model_name
        from tinsmith.pipeline.deployment import load_build, make_program
        from tinsmith.pipeline.errors import ToolMissing
        from tinsmith.pipeline.model_files import to_input
        from tinsmith.pipeline.oracles import absent_oracles, installed_oracles
        from tinsmith.pipeline.validation import interpret, validate
        from tinsmith.targets.target import target_named

        if self.options.oracle == "required" and not installed_oracles():
            how = " or ".join(absent_oracles().values())
            raise ToolMissing(f'[validate] oracle = "required", but none is installed; run: {how}')
        graph = read_integers(inputs["quantize"]).graph
        labelled = read_for_device(inputs["load"], inputs["quantize"])
        count = None if self.options.samples == "all" else int(self.options.samples)
        labels = labelled.y_test[:count]
        entry = graph.tensors[graph.inputs[0]]
        samples = {entry.name: to_input(labelled.x_test[:count], entry, "the test samples")}
        progress("the interpreter", 0.0)
        expected = interpret(graph, samples)
        names = list(dict.fromkeys((HOST, *self.targets)))
        report: dict[str, Any] = {}
        for i, name in enumerate(names):
            progress(f"{len(labels)} samples on {name}", (i + 1) / (len(names) + 1))
            target = target_named(name)
            code = tuned_options(self.code, inputs["build"].path, name)
            program = make_program(graph, model_name(self.c_name), target, code)
            # The oracles see the model, not the target: once is enough.
            result, outputs = validate(
                program,
                target,
                samples,
                made=load_build(program, target, inputs["build"].path / name),
                expected=expected,
                note="test samples",
                oracles=i == 0 and self.options.oracle != "off",
            )
            fields = result.json()
            if i:
                fields["oracles"] = report[HOST]["oracles"]
                fields["skipped_oracles"] = report[HOST]["skipped_oracles"]
                fields["bit_exact"] &= not any(fields["oracles"].values())
            fields |= accuracy_metrics(labelled.tasks, accuracies(outputs, labels))
            fields["confusion"] = _confusion(outputs, labels, labelled.tasks)
            report[name] = fields
        few = {n: a[:SANITIZED_SAMPLES] for n, a in samples.items()}
        report[HOST]["sanitizers"] = _sanitize(
            make_program(graph, model_name(self.c_name), target_named(HOST), self.code), few
        )
        write_metrics(out_dir, report, "validation.json")


def _confusion(outputs: Sequence[Array], labels: NDArray[np.int64], tasks: Sequence[Task]) -> Any:
    """The matrix, or those of several tasks by their names."""
    columns = zip(tasks, outputs, label_columns(labels), strict=True)
    found = {task.name: confusion_matrix(out, own, task.classes) for task, out, own in columns}
    return found if len(tasks) > 1 else found[tasks[0].name]


def _sanitize(program: Program, samples: Mapping[str, Array]) -> str:
    """How a build under ASan and UBSan fared: "clean", or why there is none."""
    from tinsmith.pipeline.deployment import temporary_build
    from tinsmith.pipeline.validation import differing_bytes, interpret, run_device
    from tinsmith.targets.target import target_named
    from tinsmith.targets.toolchains import sanitizer_compiler

    compiler = sanitizer_compiler()
    if compiler is None:
        return "not run: needs gcc or clang with their sanitizers"
    with temporary_build(program, target_named(HOST), toolchain=compiler, sanitize=True) as made:
        outputs, _, _ = run_device(made, samples)
    wrong = differing_bytes(outputs, interpret(program.graph, samples))
    return "clean" if wrong == 0 else f"{wrong} bytes differ"
