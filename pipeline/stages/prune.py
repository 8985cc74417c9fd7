"""prune: remove whole channels from the student in a few steps, and train between them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.config import Augment, Config, Distil, Prune, Teacher
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.training.sources import (
    DISTILLATION_SOURCES,
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    augment_files,
    distil_files,
    need_torch,
    teacher_files,
)


@dataclass(frozen=True)
class PruneStudent(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`), with
    `before`: the student's accuracy, parameters and macs, and `removed`: channels by layer.

    Trains on the same distillation loss as the stage before. Raises ConfigError where `macs` can't
    be reached, TrainingDiverged where the loss is not finite.
    """

    name: ClassVar[str] = "prune"
    inputs: ClassVar[tuple[str, ...]] = ("load", "teacher", "distil")
    sources: ClassVar[tuple[str, ...]] = (
        *TRAINING_SOURCES,
        *DISTILLATION_SOURCES,
        "tinsmith.pipeline.training.gradual",
    )
    tools: ClassVar[tuple[str, ...]] = (*TRAINING_TOOLS, "torch-pruning")
    resumable: ClassVar[bool] = True

    options: Prune
    distil: Distil
    teacher: Teacher
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(
            config.prune,
            config.distil,
            config.teacher,
            config.augment,
            config.run.seed,
            config.run.threads,
        )

    def files(self) -> tuple[Path, ...]:
        own = (*distil_files(self.distil), *augment_files(self.augment))
        return (*own, *teacher_files(self.teacher))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.distillation import distillation
        from tinsmith.pipeline.training.gradual import Plan, prune_gradually
        from tinsmith.pipeline.training.loop import Recipe, repeatable, seed_of
        from tinsmith.pipeline.training.results import (
            read_network,
            read_samples,
            read_teacher,
            sample_of,
            write_network,
        )

        options, distil, seed = self.options, self.distil, seed_of(self.seed, self.name)
        plan = Plan(
            options.macs,
            options.steps,
            options.step_epochs,
            options.multiple_of,
            options.criterion,
            options.allocation,
            options.measured_on,
        )
        recipe = Recipe(
            options.epochs,
            options.batch,
            options.learning_rate,
            distil.weight_decay,
            self.augment,
            seed,
            distil.constraints,
        )
        samples = read_samples(inputs["load"].path, unlabelled=True)
        with repeatable(seed, self.threads):
            student = read_network(inputs["distil"].path, distil.student, samples)
            teacher = read_teacher(inputs["teacher"].path, self.teacher, samples)
            loss = distillation(distil, teacher, student, sample_of(samples))
            removed, history = prune_gradually(
                student, samples, plan, recipe, loss, out_dir, progress
            )
            known = inputs["distil"].json()
            before = {name: known[name] for name in ("accuracy", "parameters", "macs")}
            channels = [asdict(removal) for removal in removed]
            write_network(student, samples, out_dir, history, before=before, removed=channels)
        for path in out_dir.glob("step*.pt"):
            path.unlink()
