"""factorize: replace the student's layers by products of smaller ones, and train what comes out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.config import Augment, CodeRef, Config, Constraint, Factorize
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.tasks import weights_of
from tinsmith.pipeline.training.sources import (
    DISTILLATION_SOURCES,
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    augment_files,
    model_files,
    need_torch,
)

_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class FactorizeStudent(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`), with
    `before`: the student's accuracy, parameters and macs, `untrained`: the accuracy before the
    training here, and `factored`: what became of each layer.

    Trains on what the student says and on the labels. Later stages take its result for the
    student's. Raises ConfigError where `macs` can't be reached, TrainingDiverged where the loss is
    not finite.
    """

    name: ClassVar[str] = "factorize"
    inputs: ClassVar[tuple[str, ...]] = ("load", "distil")
    stands_for: ClassVar[str] = "distil"
    sources: ClassVar[tuple[str, ...]] = (
        *TRAINING_SOURCES,
        *DISTILLATION_SOURCES,
        "tinsmith.pipeline.training.decompositions",
        "tinsmith.pipeline.training.low_rank",
    )
    tools: ClassVar[tuple[str, ...]] = TRAINING_TOOLS
    resumable: ClassVar[bool] = True

    options: Factorize
    student: CodeRef
    weight_decay: float
    constraints: tuple[Constraint, ...]
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        distil, run = config.distil, config.run
        return cls(
            config.factorize,
            distil.student,
            distil.weight_decay,
            tuple(distil.constraints),
            config.augment,
            run.seed,
            run.threads,
        )

    def files(self) -> tuple[Path, ...]:
        return (*model_files((self.student,)), *augment_files(self.augment))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.distillation import recollection
        from tinsmith.pipeline.training.loop import Recipe, fit, repeatable, seed_of
        from tinsmith.pipeline.training.low_rank import Plan, factorize
        from tinsmith.pipeline.training.networks import accuracy
        from tinsmith.pipeline.training.results import (
            read_network,
            read_samples,
            sample_of,
            summary_of,
            write_network,
        )

        options, seed = self.options, seed_of(self.seed, self.name)
        samples = read_samples(inputs["load"].path, unlabelled=True)
        recipe = Recipe(
            options.epochs,
            options.batch,
            options.learning_rate,
            self.weight_decay,
            self.augment,
            seed,
            self.constraints,
        )
        plan = Plan(
            options.ranks, options.macs, options.energy, options.convolution, options.multiple_of
        )
        with repeatable(seed, self.threads):
            teacher, network = (
                read_network(inputs["distil"].path, self.student, samples) for _ in range(2)
            )
            factored = factorize(network, sample_of(samples), plan)
            untrained = accuracy(network, samples.x_test, samples.y_test)
            progress(f"{len(factored)} layers factorized, {untrained:.2f} % before training", 0.0)
            loss = recollection(teacher, weights_of(samples.tasks))
            history = fit(network, samples, recipe, loss, out_dir / _CHECKPOINT, progress)
            write_network(
                network,
                samples,
                out_dir,
                history,
                before=summary_of(inputs["distil"].json()),
                untrained=untrained,
                factored=[asdict(layer) for layer in factored],
            )
        (out_dir / _CHECKPOINT).unlink(missing_ok=True)
