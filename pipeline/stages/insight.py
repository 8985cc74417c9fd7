"""insight: what compression did beyond the mean, for the networks of a run.

It is no part of a run: `tinsmith insight` asks for it, with the networks as `teacher`, `student`,
`pruned` and `integers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.config import CodeRef, Config, Teacher
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import read_integers, write_metrics
from tinsmith.pipeline.stages.quantize import GRAPH_SOURCES
from tinsmith.pipeline.tasks import Task, label_columns
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    model_files,
    need_torch,
    teacher_files,
)

if TYPE_CHECKING:
    from torch import nn

    from tinsmith.pipeline.insight.disturbances import Samples
    from tinsmith.pipeline.insight.effects import Effects
    from tinsmith.pipeline.report.insight_page import Pictures

PAGE = "insight.html"
FOUND = "insight.json"
_BATCH = 250


@dataclass(frozen=True)
class ExplainCompression(Stage):
    """Writes insight.json (see `insight.effects.Effects`) and insight.html.

    count: how many test samples are disturbed. integers: what the last network is called. task:
    which one is looked at where there are several. Raises ConfigError for one that isn't there.
    """

    name: ClassVar[str] = "insight"
    inputs: ClassVar[tuple[str, ...]] = ("load", "teacher", "student", "pruned", "integers")
    sources: ClassVar[tuple[str, ...]] = (
        *TRAINING_SOURCES,
        *GRAPH_SOURCES,
        "tinsmith.pipeline.insight",
        "tinsmith.pipeline.report",
        "tinsmith.pipeline.stages.common",
    )
    tools: ClassVar[tuple[str, ...]] = (*TRAINING_TOOLS, "jinja2")

    run_name: str
    teacher: Teacher
    student: CodeRef
    integers: str
    count: int
    task: str
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config, count: int, task: str = "") -> Self:
        run, integers = config.run, f"int{config.quantize.activations}"
        student = config.distil.student
        return cls(run.name, config.teacher, student, integers, count, task, run.seed, run.threads)

    def files(self) -> tuple[Path, ...]:
        return (*teacher_files(self.teacher), *model_files((self.student,)))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.insight.effects import effects_of
        from tinsmith.pipeline.report.insight_page import insight_page
        from tinsmith.pipeline.training.loop import repeatable, seed_of
        from tinsmith.pipeline.training.results import read_network, read_samples, read_teacher

        seed = seed_of(self.seed, self.name)
        samples = read_samples(inputs["load"].path)
        place = _place_of(self.task, samples.tasks)
        with np.load(inputs["load"].file("data.npz")) as file:
            images = bool(file["pixels"])
        with repeatable(seed, self.threads):
            floats: dict[str, nn.Module] = {
                "teacher": read_teacher(inputs["teacher"].path, self.teacher, samples)
            }
            for name in ("student", "pruned"):
                floats[name] = read_network(inputs[name].path, self.student, samples)
            networks = {name: _torch_says(network, place) for name, network in floats.items()}
            networks[self.integers] = _integers_say(inputs["integers"], place)
            labels = label_columns(samples.y_test.numpy())[place]
            effects = effects_of(
                networks, samples.x_test.numpy(), labels, samples.tasks[place].classes,
                images=images, count=self.count, seed=seed, tell=progress,
            )  # fmt: skip
            pictures = None
            notes = ["saliency of the integers: they have no gradient"]
            if images:
                shown = {name: floats[name] for name in ("teacher", "pruned")}
                pictures = _pictures(shown, place, samples.x_test.numpy(), effects, seed)
            else:
                notes = ["pictures and saliency maps: the samples are no images"]
        write_metrics(out_dir, {**effects.json(), "notes": notes}, FOUND)
        (out_dir / PAGE).write_text(insight_page(self.run_name, effects, pictures, notes))


def _place_of(name: str, tasks: Sequence[Task]) -> int:
    """The place of the task of this name; the only one needs none."""
    names = [task.name for task in tasks]
    if name in names:
        return names.index(name)
    if not name and len(tasks) == 1:
        return 0
    known = ", ".join(filter(None, names))
    if not name:
        raise ConfigError(f"the networks have several tasks; name one: --task, of {known}")
    raise ConfigError(f"--task {name}: allowed: {known or 'none, there is one without a name'}")


def _torch_says(network: nn.Module, task: int) -> Callable[[Samples], NDArray[Any]]:
    import torch

    from tinsmith.pipeline.training.heads import heads_of

    def say(x: Samples) -> NDArray[Any]:
        with torch.no_grad():
            parts = [
                heads_of(network.eval()(part))[task]
                for part in torch.split(torch.from_numpy(x), _BATCH)
            ]
        logits: NDArray[Any] = torch.cat(parts).numpy()
        return logits

    return say


def _integers_say(quantized: Artifact, task: int) -> Callable[[Samples], NDArray[Any]]:
    from tinsmith.pipeline.interpreter import run_samples
    from tinsmith.pipeline.model_files import to_input

    graph = read_integers(quantized).graph
    entry = graph.tensors[graph.inputs[0]]
    axes = quantized.json()["input_axes"]

    def say(x: Samples) -> NDArray[Any]:
        own = to_input(np.ascontiguousarray(x.transpose(axes)), entry, "the test samples")
        outputs = run_samples(graph, {entry.name: own})[task]
        return outputs.reshape(len(outputs), -1)

    return say


def _pictures(
    networks: Mapping[str, nn.Module], task: int, x: Samples, effects: Effects, seed: int
) -> Pictures:
    """The images that flipped, and where the networks look on them."""
    import torch

    from tinsmith.pipeline.insight.saliency import saliency
    from tinsmith.pipeline.report.insight_page import Pictures

    chosen = [flipped.sample for flipped in effects.flipped]
    images = torch.from_numpy(x[chosen])
    labels = torch.tensor([flipped.label for flipped in effects.flipped], dtype=torch.int64)
    none = np.empty((0, 1, 1), np.float32)
    maps = {
        name: saliency(network, images, labels, seed, task).numpy() if chosen else none
        for name, network in networks.items()
    }
    return Pictures(images.numpy(), maps)
