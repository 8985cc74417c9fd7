"""cluster: let each layer's weights share few values, train these, code the network in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.config import Augment, Cluster, CodeRef, Config
from tinsmith.pipeline.errors import ConfigError
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

CODED = "weights.tsw"
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class ClusterStudent(Stage):
    """Writes weights.tsw (see `coding.container`), and weights.pt, model.onnx and metrics.json (see
    `training.results.write_network`) of the network read back from it. metrics.json has `before`:
    the pruned student's accuracy, parameters and macs; `untrained`: the accuracy before the shared
    values were trained; `values`: how many a layer has; `coded_bytes`: of the whole network as
    float32, as a coded file of int8 weights, and of weights.tsw.

    Trains on what the pruned student says and on the labels. Later stages take its result for the
    pruned student's. Raises ConfigError for layers that aren't there, TrainingDiverged where the
    loss is not finite.
    """

    name: ClassVar[str] = "cluster"
    inputs: ClassVar[tuple[str, ...]] = ("load", "prune")
    stands_for: ClassVar[str] = "prune"
    sources: ClassVar[tuple[str, ...]] = (
        *TRAINING_SOURCES,
        *DISTILLATION_SOURCES,
        "tinsmith.pipeline.coding",
        "tinsmith.pipeline.training.codebooks",
        "tinsmith.pipeline.training.deep_compression",
        "tinsmith.pipeline.training.sparsity",
    )
    tools: ClassVar[tuple[str, ...]] = TRAINING_TOOLS
    resumable: ClassVar[bool] = True

    options: Cluster
    student: CodeRef
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        run = config.run
        return cls(config.cluster, config.distil.student, config.augment, run.seed, run.threads)

    def files(self) -> tuple[Path, ...]:
        return (*model_files((self.student,)), *augment_files(self.augment))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        import torch

        from tinsmith.pipeline.coding.container import decode_weights
        from tinsmith.pipeline.training.codebooks import share_weights, values_of
        from tinsmith.pipeline.training.deep_compression import (
            coded_file,
            int8_file_bytes,
            train_shared,
        )
        from tinsmith.pipeline.training.distillation import recollection
        from tinsmith.pipeline.training.loop import Recipe, repeatable, seed_of
        from tinsmith.pipeline.training.networks import accuracy, matrices
        from tinsmith.pipeline.training.results import (
            read_network,
            read_samples,
            summary_of,
            write_network,
        )

        options, seed = self.options, seed_of(self.seed, self.name)
        samples = read_samples(inputs["load"].path, unlabelled=True)
        recipe = Recipe(
            options.epochs, options.batch, options.learning_rate, 0.0, self.augment, seed
        )
        with repeatable(seed, self.threads):
            teacher, network = (
                read_network(inputs["prune"].path, self.student, samples) for _ in range(2)
            )
            bits = self._bits([*matrices(network)])
            as_int8 = int8_file_bytes(network)
            share_weights(network, bits, options.start, seed)
            untrained = accuracy(network, samples.x_test, samples.y_test)
            progress(f"{len(bits)} layers share values, {untrained:.2f} % before training", 0.0)
            loss = recollection(teacher, weights_of(samples.tasks))
            history = train_shared(network, samples, recipe, loss, out_dir / _CHECKPOINT, progress)
            file, records = coded_file(network)
            (out_dir / CODED).write_bytes(file)
            state = decode_weights((out_dir / CODED).read_bytes())
            network.load_state_dict({name: torch.from_numpy(w) for name, w in state.items()})
            as_float = 4 * sum(record.values for record in records)
            progress(
                f"coded: {len(file):,} bytes, of int8 weights {as_int8:,}, as float32 "
                f"{as_float:,}; firmware holds a byte for each weight all the same",
                1.0,
            )
            write_network(
                network,
                samples,
                out_dir,
                history,
                before=summary_of(inputs["prune"].json()),
                untrained=untrained,
                values={name: values_of(matrices(network)[name]) for name in bits},
                coded_bytes={"float32": as_float, "int8": as_int8, "shared": len(file)},
            )
        (out_dir / _CHECKPOINT).unlink(missing_ok=True)

    def _bits(self, layers: Sequence[str]) -> dict[str, int]:
        """How many a weight's code has, by layer."""
        options = self.options
        for name in options.layer_bits:
            if name not in layers:
                raise ConfigError(
                    f"[cluster] layer_bits: there is no layer '{name}'; allowed: "
                    f"{', '.join(layers)}"
                )
        return (dict.fromkeys(layers, options.bits) if options.bits else {}) | options.layer_bits
