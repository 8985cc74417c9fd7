"""teacher: train the large network on the labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.config import Augment, Config, ModelRef, Teacher
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    need_torch,
    teacher_files,
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
        return teacher_files(self.options)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.loop import Recipe, repeatable, seed_of
        from tinsmith.pipeline.training.losses import label_loss
        from tinsmith.pipeline.training.networks import as_one, make_network
        from tinsmith.pipeline.training.results import read_samples, sample_of, write_network
        from tinsmith.pipeline.training.series import Member, fit_series, forget_series

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
        sample = sample_of(samples)

        def member(place: int, model: ModelRef) -> Member:
            label = f"member {place}/{1 + len(options.members)}" if options.members else ""
            return Member(
                label, lambda _: (make_network(model, sample, samples.classes), label_loss)
            )

        with repeatable(seed, self.threads):
            models = (options.model, *options.members)
            members = [member(place, model) for place, model in enumerate(models, 1)]
            networks, history = fit_series(members, samples, recipe, out_dir, progress)
            write_network(as_one(networks), samples, out_dir, history)
        forget_series(out_dir)
