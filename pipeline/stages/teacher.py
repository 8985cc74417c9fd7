"""teacher: train the large network on the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tinsmith.pipeline.config import Augment, CodeRef, Config, Teacher
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.tasks import weights_of
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    augment_files,
    need_torch,
    teacher_files,
)

if TYPE_CHECKING:
    from torch import nn

    from tinsmith.pipeline.training.losses import Loss


@dataclass(frozen=True)
class TrainTeacher(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`).

    Raises ConfigError for a model or a loss that can't be made, TrainingDiverged where the loss is
    not finite.
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
        return (*teacher_files(self.options), *augment_files(self.augment))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.loop import Recipe, repeatable, seed_of
        from tinsmith.pipeline.training.losses import label_loss
        from tinsmith.pipeline.training.networks import as_one, make_network
        from tinsmith.pipeline.training.results import read_samples, sample_of, write_network
        from tinsmith.pipeline.training.series import Member, fit_series, forget_series
        from tinsmith.pipeline.training.user_losses import LossOfLabels

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
        sample, weights = sample_of(samples), weights_of(samples.tasks)

        def member(place: int, model: CodeRef) -> Member:
            label = f"member {place}/{1 + len(options.members)}" if options.members else ""

            def make(_: nn.Module | None) -> tuple[nn.Module, Loss]:
                network = make_network(model, sample, samples.tasks)
                if options.loss:
                    return network, LossOfLabels(options.loss, weights)
                return network, partial(label_loss, weights=weights)

            return Member(label, make)

        with repeatable(seed, self.threads):
            models = (options.model, *options.members)
            members = [member(place, model) for place, model in enumerate(models, 1)]
            networks, history = fit_series(members, samples, recipe, out_dir, progress)
            write_network(as_one(networks), samples, out_dir, history)
        forget_series(out_dir)
