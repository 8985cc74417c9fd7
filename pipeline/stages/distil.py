"""distil: train the small network on the teacher's answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.config import Augment, Config, Distil, ModelRef
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    local_sources,
    need_torch,
)


@dataclass(frozen=True)
class DistilStudent(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`), with
    `teacher`: the teacher's accuracy, parameters and macs.

    Raises ConfigError for a model that can't be made, TrainingDiverged where the loss is not
    finite.
    """

    name: ClassVar[str] = "distil"
    inputs: ClassVar[tuple[str, ...]] = ("load", "teacher")
    sources: ClassVar[tuple[str, ...]] = TRAINING_SOURCES
    tools: ClassVar[tuple[str, ...]] = TRAINING_TOOLS
    resumable: ClassVar[bool] = True

    options: Distil
    teacher: ModelRef
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(
            config.distil, config.teacher.model, config.augment, config.run.seed, config.run.threads
        )

    def files(self) -> tuple[Path, ...]:
        return (*local_sources(self.options.model.path), *local_sources(self.teacher.path))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.loop import Recipe, fit, repeatable, seed_of
        from tinsmith.pipeline.training.losses import distillation_loss
        from tinsmith.pipeline.training.networks import make_network
        from tinsmith.pipeline.training.results import (
            read_network,
            read_samples,
            sample_of,
            write_network,
        )

        options, seed = self.options, seed_of(self.seed, self.name)
        samples = read_samples(inputs["load"].path)
        recipe = Recipe(
            options.epochs,
            options.batch,
            options.learning_rate,
            options.weight_decay,
            self.augment,
            seed,
        )
        checkpoint = out_dir / "checkpoint.pt"
        with repeatable(seed, self.threads):
            teacher = read_network(inputs["teacher"].path, self.teacher, samples)
            loss = distillation_loss(teacher, options.temperature, options.alpha)
            network = make_network(options.model, sample_of(samples), samples.classes)
            history = fit(network, samples, recipe, loss, checkpoint, progress)
            known = inputs["teacher"].json()
            summary = {name: known[name] for name in ("accuracy", "parameters", "macs")}
            write_network(network, samples, out_dir, history, teacher=summary)
        checkpoint.unlink()
