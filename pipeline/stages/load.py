"""load: read the samples once, check them, and fix the split into training and test samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tinsmith.pipeline.audio.dataset import front_end
from tinsmith.pipeline.config import Audio, Config, Data
from tinsmith.pipeline.data import noun, read_dataset, source_files, to_float
from tinsmith.pipeline.data_files import read_unlabelled, size_text
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.tasks import task_arrays, tasks_text


@dataclass(frozen=True)
class Load(Stage):
    """Writes data.npz: `x_train`, `x_test` float32 [N, ...] as networks take them, which is
    [N, C, H, W] = pixel / 255 of images; `y_train`, `y_test` int64 [N], or [N, tasks] of several;
    `classes`, how many there are, and more of tasks that have names (`tasks.task_arrays`);
    `pixels`, whether they are images; `x_unlabelled` where there are such samples. Raises DataError
    for data that can't be used.
    """

    name: ClassVar[str] = "load"
    sources: ClassVar[tuple[str, ...]] = (
        "tinsmith.pipeline.audio",
        "tinsmith.pipeline.class_folders",
        "tinsmith.pipeline.data",
        "tinsmith.pipeline.data_files",
        "tinsmith.pipeline.image_folder",
        "tinsmith.pipeline.tasks",
        "tinsmith.pipeline.user_code",
        "tinsmith.pipeline.user_data",
    )
    tools: ClassVar[tuple[str, ...]] = ("numpy", "mlxtend", "pillow")

    data: Data
    audio: Audio
    seed: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        front_end(config)  # refuses what gives none
        return cls(config.data, config.audio, config.run.seed)

    def files(self) -> tuple[Path, ...]:
        more = [path for path in (self.data.unlabelled, self.audio.noise) if path is not None]
        return (*source_files(self.data), *more)

    def is_certain(self) -> bool:
        """What a user's function reads is not known here: it is called in each run."""
        return self.data.source != "python"

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        remarks: list[str] = []
        dataset = read_dataset(self.data, self.seed, self.audio, remarks.append)
        train, test = dataset.train, dataset.test
        more = {}
        if self.data.unlabelled is not None:
            more["x_unlabelled"] = to_float(read_unlabelled(self.data.unlabelled, train))
        np.savez(
            out_dir / "data.npz",
            x_train=to_float(train.x),
            y_train=train.y,
            x_test=to_float(test.x),
            y_test=test.y,
            pixels=np.bool_(train.x.dtype == np.uint8),
            **task_arrays(dataset.tasks),
            **more,
        )
        progress(
            f"{len(train.y)} {noun(train)}s to train on, {len(test.y)} to test; "
            f"{size_text(train)}, {tasks_text(dataset.tasks)}"
            + "".join(f", {len(x)} without labels" for x in more.values())
            + "".join(f"; {remark}" for remark in remarks)
        )
