"""teacher: train the large network on the labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.config import Augment, Config, Teacher
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    local_sources,
    need_torch,
)


@dataclass(frozen=True)
class TrainTeacher(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`).

    Raises ConfigError for a model that can't be made, TrainingDiverged where the loss is not
    finite.
    """

    name: ClassVar[str] = "teacher"
    inputs: ClassVar[tuple[str, ...]] = ("load",)
    sources: ClassVar[tuple[str, ...]] = TRAINING_SOURCES
    tools: ClassVar[tuple[str, ...]] = TRAINING_TOOLS
    resumable: ClassVar[bool] = True

    options: Teacher
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(config.teacher, config.augment, config.run.seed, config.run.threads)

    def files(self) -> tuple[Path, ...]:
        return local_sources(self.options.model.path)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.loop import Recipe, fit, repeatable, seed_of
        from tinsmith.pipeline.training.losses import label_loss
        from tinsmith.pipeline.training.networks import make_network
        from tinsmith.pipeline.training.results import read_samples, sample_of, write_network

        options, seed = self.options, seed_of(self.seed, self.name)
        recipe = Recipe(
            options.epochs,
            options.batch,
            options.learning_rate,
            options.weight_decay,
            self.augment,
            seed,
        )
        samples = read_samples(inputs["load"].path)
        checkpoint = out_dir / "checkpoint.pt"
        with repeatable(seed, self.threads):
            network = make_network(options.model, sample_of(samples), samples.classes)
            history = fit(network, samples, recipe, label_loss, checkpoint, progress)
            write_network(network, samples, out_dir, history)
        checkpoint.unlink()
