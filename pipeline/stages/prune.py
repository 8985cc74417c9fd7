"""prune: remove channels, hidden units, layers or weights from the student, and train the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tinsmith.pipeline.config import Augment, Config, Distil, Prune, Teacher
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

    from tinsmith.pipeline.training.distillation import Distillation
    from tinsmith.pipeline.training.gradual import Plan
    from tinsmith.pipeline.training.loop import Epoch, Recipe, Samples
    from tinsmith.pipeline.training.networks import Weights


@dataclass(frozen=True)
class PruneStudent(Stage):
    """Writes weights.pt, model.onnx and metrics.json (see `training.results.write_network`), with
    `before`: the student's accuracy, parameters and macs, and `removed`: outputs by layer. Where
    weights are masked also `density`: the share that is not 0 by layer, and `coded_bytes`: of the
    int8 weights in a coded file, before and after.

    Trains on the same distillation loss as the stage before. Raises ConfigError where `macs` can't
    be reached, TrainingDiverged where the loss is not finite.
    """

    name: ClassVar[str] = "prune"
    inputs: ClassVar[tuple[str, ...]] = ("load", "teacher", "distil")
    sources: ClassVar[tuple[str, ...]] = (
        *TRAINING_SOURCES,
        *DISTILLATION_SOURCES,
        "tinsmith.pipeline.coding",
        *(
            f"tinsmith.pipeline.training.{part}"
            for part in (
                "codebooks",
                "deep_compression",
                "depth",
                "folds",
                "gradual",
                "hidden",
                "hidden_parts",
                "masked",
                "masks",
                "movement",
                "sparsity",
            )
        ),
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

    def check(self, known: Mapping[str, Artifact]) -> None:
        """Whether so much can go, before anything is trained: tried on a student that was not."""
        if self.options.scope in ("weights", "blocks"):
            return
        need_torch(self.name)
        from tinsmith.pipeline.training.gradual import can_lose
        from tinsmith.pipeline.training.loop import repeatable
        from tinsmith.pipeline.training.networks import make_network
        from tinsmith.pipeline.training.results import read_samples, sample_of

        samples = read_samples(known["load"].path)
        with repeatable(self.seed, self.threads):
            student = make_network(self.distil.student, sample_of(samples), samples.tasks)
            can_lose(student, samples, _plan(self.options))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.training.distillation import distillation
        from tinsmith.pipeline.training.loop import Recipe, repeatable, seed_of
        from tinsmith.pipeline.training.results import (
            read_early,
            read_network,
            read_samples,
            read_teacher,
            sample_of,
            summary_of,
            write_network,
        )

        options, distil, seed = self.options, self.distil, seed_of(self.seed, self.name)
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
        before = inputs["distil"].path
        early = read_early(before) if options.schedule == "rewind" else None
        with repeatable(seed, self.threads):
            student = read_network(before, distil.student, samples)
            teacher = read_teacher(inputs["teacher"].path, self.teacher, samples)
            weights = weights_of(samples.tasks)
            loss = distillation(distil, teacher, student, sample_of(samples), weights)
            prune = _mask if options.scope in ("weights", "blocks") else _remove
            history, facts = prune(
                options, student, samples, recipe, loss, out_dir, progress, early
            )
            summary = summary_of(inputs["distil"].json())
            write_network(student, samples, out_dir, history, before=summary, **facts)
        for path in out_dir.glob("step*.pt"):
            path.unlink()


def _plan(options: Prune) -> Plan:
    from tinsmith.pipeline.training.gradual import Plan

    return Plan(
        options.macs,
        options.steps,
        options.step_epochs,
        options.multiple_of,
        options.criterion,
        options.allocation,
        options.measured_on,
        options.scope,
        options.schedule,
        options.folds,
    )


def _remove(
    options: Prune,
    student: nn.Module,
    samples: Samples,
    recipe: Recipe,
    loss: Distillation,
    out_dir: Path,
    progress: Progress,
    early: Weights | None,
) -> tuple[tuple[Epoch, ...], dict[str, Any]]:
    """What leaves the network for good: channels, hidden units, layers."""
    from tinsmith.pipeline.training.gradual import prune_gradually

    plan = _plan(options)
    removed, history = prune_gradually(
        student, samples, plan, recipe, loss, out_dir, progress, early
    )
    return history, {"removed": [asdict(removal) for removal in removed]}


def _mask(
    options: Prune,
    student: nn.Module,
    samples: Samples,
    recipe: Recipe,
    loss: Distillation,
    out_dir: Path,
    progress: Progress,
    early: Weights | None,
) -> tuple[tuple[Epoch, ...], dict[str, Any]]:
    """Single weights and blocks of them become zeros."""
    from tinsmith.pipeline.training.deep_compression import int8_file_bytes
    from tinsmith.pipeline.training.masked import MaskPlan, prune_weights
    from tinsmith.pipeline.training.masks import MaskChoice
    from tinsmith.pipeline.training.networks import matrices
    from tinsmith.pipeline.training.sparsity import Pattern

    blocks = options.scope == "blocks"
    pattern = Pattern(options.block, options.of) if blocks else Pattern()
    choice = MaskChoice(options.density, options.criterion, options.allocation, pattern)
    plan = MaskPlan(
        choice,
        options.schedule,
        options.steps,
        options.step_epochs,
        options.measured_on,
        options.folds,
    )
    whole = int8_file_bytes(student)
    history = prune_weights(student, samples, plan, recipe, loss, out_dir, progress, early)
    coded = int8_file_bytes(student)
    weights = {name: w.detach() != 0 for name, w in matrices(student).items()}
    share = sum(int(w.sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())
    progress(
        f"{100 * share:.1f} % of the weights stay: coded as int8 {coded:,} bytes instead of "
        f"{whole:,}; firmware holds zeros like other weights, and is smaller or faster only where "
        "they fill whole channels",
        1.0,
    )
    densities = {name: round(float(w.float().mean()), 6) for name, w in weights.items()}
    facts = {"density": densities, "coded_bytes": {"before": whole, "after": coded}}
    return history, {"removed": [], **facts}
