"""distil: train the small network on the teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tinsmith.pipeline.config import Augment, CodeRef, Config, Distil, Teacher
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.tasks import weights_of
from tinsmith.pipeline.training.sources import (
    DISTILLATION_SOURCES,
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    augment_files,
    distil_files,
    need_torch,
    teacher_files,
)

if TYPE_CHECKING:
    from torch import nn

    from tinsmith.pipeline.training.losses import Loss


@dataclass(frozen=True)
class DistilStudent(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`), with
    `teacher`: the teacher's accuracy, parameters and macs; where pruning rewinds also early.pt, the
    student's weights after some epochs.

    Trains the assistants first, then the student once a generation, each on the terms of the
    options with the network before it as its teacher.

    Raises ConfigError for a model or a term that can't be made, TrainingDiverged where the loss is
    not finite.
    """

    name: ClassVar[str] = "distil"
    inputs: ClassVar[tuple[str, ...]] = ("load", "teacher")
    sources: ClassVar[tuple[str, ...]] = (*TRAINING_SOURCES, *DISTILLATION_SOURCES)
    tools: ClassVar[tuple[str, ...]] = (*TRAINING_TOOLS, "torch-pruning")
    resumable: ClassVar[bool] = True

    options: Distil
    teacher: Teacher
    augment: Augment
    seed: int
    threads: int
    # After which epoch the student is kept for [prune] to rewind to.
    early_epoch: int | None = None

    @classmethod
    def from_config(cls, config: Config) -> Self:
        prune, run = config.prune, config.run
        early = prune.rewind_epoch if prune.schedule == "rewind" else None
        return cls(config.distil, config.teacher, config.augment, run.seed, run.threads, early)

    def files(self) -> tuple[Path, ...]:
        own = (*distil_files(self.options), *augment_files(self.augment))
        return (*own, *teacher_files(self.teacher))

    def check(self, known: Mapping[str, Artifact]) -> None:
        """Whether the networks can be made, compared and cut, before the teacher is trained."""
        need_torch(self.name)
        from tinsmith.pipeline.training.cutting import cut_from
        from tinsmith.pipeline.training.distillation import distillation
        from tinsmith.pipeline.training.loop import repeatable
        from tinsmith.pipeline.training.networks import make_network, make_teacher
        from tinsmith.pipeline.training.results import read_samples, sample_of

        samples = read_samples(known["load"].path)
        sample, weights = sample_of(samples), weights_of(samples.tasks)
        with repeatable(self.seed, self.threads):
            shown = make_teacher(self.teacher, sample, samples.tasks)
            for _, model in _labelled(self.options):
                network = make_network(model, sample, samples.tasks)
                if self.options.start == "teacher":
                    cut_from(shown, network, sample)
                distillation(self.options, shown, network, sample, weights)
                shown = network

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.cutting import cut_from
        from tinsmith.pipeline.training.distillation import distillation
        from tinsmith.pipeline.training.loop import Recipe, repeatable, seed_of
        from tinsmith.pipeline.training.networks import make_network
        from tinsmith.pipeline.training.results import (
            SUMMARY,
            keep_early,
            read_samples,
            read_teacher,
            sample_of,
            write_network,
        )
        from tinsmith.pipeline.training.series import Member, fit_series, forget_series

        options, seed = self.options, seed_of(self.seed, self.name)
        samples = read_samples(inputs["load"].path, unlabelled=True)
        sample, weights = sample_of(samples), weights_of(samples.tasks)
        recipe = Recipe(
            options.epochs,
            options.batch,
            options.learning_rate,
            options.weight_decay,
            self.augment,
            seed,
            options.constraints,
        )

        def member(label: str, model: CodeRef) -> Member:
            def make(before: nn.Module | None) -> tuple[nn.Module, Loss]:
                network = make_network(model, sample, samples.tasks)
                shown = teacher if before is None else before
                if options.start == "teacher":
                    cut_from(shown, network, sample)
                return network, distillation(options, shown, network, sample, weights)

            return Member(label, make)

        with repeatable(seed, self.threads):
            teacher = read_teacher(inputs["teacher"].path, self.teacher, samples)
            members = [member(label, model) for label, model in _labelled(options)]
            if self.early_epoch is not None:
                watch = partial(keep_early, out_dir, self.early_epoch, options.epochs)
                members[-1] = replace(members[-1], watch=watch)
            networks, history = fit_series(members, samples, recipe, out_dir, progress)
            known = inputs["teacher"].json()
            summary = {name: known[name] for name in SUMMARY if name in known}
            write_network(networks[-1], samples, out_dir, history, teacher=summary)
        forget_series(out_dir)


def _labelled(options: Distil) -> list[tuple[str, CodeRef]]:
    """The networks in the order of their training, and what progress calls them."""
    assistants = [
        (f"assistant {place}/{len(options.assistants)}", model)
        for place, model in enumerate(options.assistants, 1)
    ]
    students = [
        (f"generation {place}/{options.generations}", options.student)
        for place in range(1, options.generations + 1)
    ]
    if len(students) == 1:
        students = [("student" if assistants else "", options.student)]
    return [*assistants, *students]
