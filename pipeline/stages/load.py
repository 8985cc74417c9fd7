"""load: read the images once, check them, and fix the split into training and test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tinsmith.pipeline.config import Config
from tinsmith.pipeline.data import idx_files, read_dataset, read_unlabelled, to_float
from tinsmith.pipeline.flow import Artifact, Progress, Stage


@dataclass(frozen=True)
class Load(Stage):
    """Writes data.npz: `x_train`, `x_test` float32 [N, C, H, W] = pixel / 255; `y_train`, `y_test`
    int64 [N]; `classes`, how many there are; `x_unlabelled` where there are such images. Raises
    DataError for data that can't be used.
    """

    name: ClassVar[str] = "load"
    sources: ClassVar[tuple[str, ...]] = (
        "tinsmith.pipeline.data",
        "tinsmith.pipeline.image_folder",
    )
    tools: ClassVar[tuple[str, ...]] = ("numpy", "mlxtend", "pillow")

    source: str
    path: Path | None
    unlabelled: Path | None
    train: int | None
    test: int | None
    seed: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        data = config.data
        limits = [None if count == "all" else count for count in (data.train, data.test)]
        return cls(data.source, data.path, data.unlabelled, limits[0], limits[1], config.run.seed)

    def files(self) -> tuple[Path, ...]:
        more = () if self.unlabelled is None else (self.unlabelled,)
        if self.path is None:
            return more
        if self.source == "idx":
            return (*idx_files(self.path).values(), *more)
        return (self.path, *more)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        dataset = read_dataset(self.source, self.path, self.train, self.test, self.seed)
        train, test = dataset.train, dataset.test
        more = {}
        if self.unlabelled is not None:
            more["x_unlabelled"] = to_float(read_unlabelled(self.unlabelled, train))
        np.savez(
            out_dir / "data.npz",
            x_train=to_float(train.x),
            y_train=train.y,
            x_test=to_float(test.x),
            y_test=test.y,
            classes=np.int64(dataset.classes),
            **more,
        )
        height, width, channels = train.x.shape[1:]
        progress(
            f"{len(train.y)} images to train on, {len(test.y)} to test; "
            f"{height} x {width} x {channels}, {dataset.classes} classes"
            + "".join(f", {len(x)} without labels" for x in more.values())
        )
