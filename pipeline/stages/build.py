"""build: the generated C compiled for every target, as an image that its emulator runs."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.config import Config, c_name
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import read_integers, write_metrics
from tinsmith.pipeline.stages.generate import (
    CHOICES,
    CODE_SOURCES,
    CODE_TOOLS,
    code_options,
    tuned_options,
)

HOST = "host"


@dataclass(frozen=True)
class BuildImages(Stage):
    """Writes <target>/image.* with its sources and image.json (form, toolchain, sizes), for every
    target and for the host; kernels.json as `generate` does. The model's files are those that
    `generate` wrote. Raises DoesNotFit where code, weights and arena exceed what a target has.
    """

    name: ClassVar[str] = "build"
    inputs: ClassVar[tuple[str, ...]] = ("generate", "quantize")
    sources: ClassVar[tuple[str, ...]] = CODE_SOURCES
    tools: ClassVar[tuple[str, ...]] = CODE_TOOLS

    targets: tuple[str, ...]
    code: CodeOptions
    c_name: str

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(tuple(config.generate.targets), code_options(config), c_name(config))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        from tinsmith.codegen.emit import model_name
        from tinsmith.pipeline.deployment import build, make_program
        from tinsmith.targets.target import target_named

        model = read_integers(inputs["quantize"], self.c_name)
        shutil.copy(inputs["generate"].file(CHOICES), out_dir)
        names = dict.fromkeys((HOST, *self.targets))
        for i, name in enumerate(names):
            progress(f"compiling for {name}", i / len(names))
            target = target_named(name)
            code = tuned_options(self.code, inputs["generate"].path, name)
            program = make_program(
                model.graph, model_name(self.c_name), target, code, model_sha256=model.sha256
            )
            made = build(program, target, out_dir / name)
            if name != HOST or HOST in self.targets:
                _check_same(inputs["generate"].path / name, made.sources.model)
            sizes = made.image.sizes
            write_metrics(
                out_dir / name,
                {
                    "image": made.image.path.name,
                    "form": made.image.form,
                    "toolchain": made.image.toolchain,
                    "sizes": None if sizes is None else asdict(sizes),
                },
                "image.json",
            )


def _check_same(folder: Path, files: Mapping[str, str]) -> None:
    """What is compiled is what was generated: emission is stable byte for byte."""
    for name, text in files.items():
        assert (folder / name).read_text() == text, f"{folder / name} is not what was compiled"
