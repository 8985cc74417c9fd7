"""generate: the C for every target, each in a folder that stands alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from tinsmith.pipeline.audio.dataset import front_end as sound_front_end
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.config import Config, c_name
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import read_for_device, read_integers, write_metrics
from tinsmith.pipeline.stages.quantize import GRAPH_SOURCES
from tinsmith.targets.target import target_named

CODE_SOURCES = (
    *GRAPH_SOURCES,
    "tinsmith.codegen",
    "tinsmith.targets",
    "tinsmith.pipeline.audio",
    "tinsmith.pipeline.code_options",
    "tinsmith.pipeline.deployment",
    "tinsmith.pipeline.fit",
    "tinsmith.pipeline.generation",
    "tinsmith.pipeline.memory_map",
    "tinsmith.pipeline.output_folder",
    "tinsmith.pipeline.validation",
    "tinsmith.pipeline.oracles",
    "tinsmith.pipeline.tuning",
    "tinsmith.pipeline.stages.common",
)
CHOICES = "kernels.json"
CODE_TOOLS = ("numpy", "jinja2", "ziglang", "unicorn", "capstone")


def code_options(config: Config) -> CodeOptions:
    """Those of a configuration's table [generate]; ConfigError for a memory that no target has."""
    asked = config.generate
    for target in asked.targets:
        if target.endswith(".toml"):
            raise ConfigError(
                f"[generate] targets: '{target}' is a file; a board file of your own is for "
                "`tinsmith generate` and `validate` with -t"
            )
    known = {region.name for t in asked.targets for region in target_named(t).regions}
    for memory in asked.memories:
        if memory not in known:
            raise ConfigError(
                f"[generate] memories: no target has a memory '{memory}'; "
                f"allowed: {', '.join(sorted(known)) or 'none'}"
            )
    memories = tuple(sorted(asked.memories.items()))
    return CodeOptions(asked.objective, asked.preserve_inputs, asked.arena, memories)


def tuned_options(code: CodeOptions, folder: Path, target: str) -> CodeOptions:
    """The options with the kernels that were chosen for a target, by the file in `folder`."""
    choices = json.loads((folder / CHOICES).read_text())
    return replace(code, choice=tuple(choices.get(target, {}).items()))


@dataclass(frozen=True)
class GenerateCode(Stage):
    """Writes <target>/: sources, header, CMakeLists.txt, README.md, memory.svg, selftest/; and
    kernels.json: {target: {layer: kernel}}, of those that were tuned. The golden vectors are test
    samples.
    Raises DoesNotFit, UnsupportedModel, ToolMissing as `generation.generate` does.
    """

    name: ClassVar[str] = "generate"
    inputs: ClassVar[tuple[str, ...]] = ("load", "quantize")
    sources: ClassVar[tuple[str, ...]] = CODE_SOURCES
    tools: ClassVar[tuple[str, ...]] = CODE_TOOLS

    targets: tuple[str, ...]
    code: CodeOptions
    tune: bool
    c_name: str
    front_end: FrontEnd | None

    @classmethod
    def from_config(cls, config: Config) -> Self:
        from tinsmith.pipeline.tuning import check_tunable

        asked, code = config.generate, code_options(config)
        for target in asked.targets if asked.tune else ():
            check_tunable(target_named(target), "[generate] tune")
        return cls(tuple(asked.targets), code, asked.tune, c_name(config), sound_front_end(config))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        from tinsmith.pipeline.generation import GOLDEN_SAMPLES, generate
        from tinsmith.pipeline.model_files import to_input
        from tinsmith.pipeline.output_folder import write_folder

        model = read_integers(inputs["quantize"], self.c_name)
        graph = model.graph
        entry = graph.tensors[graph.inputs[0]]
        labelled = read_for_device(inputs["load"], inputs["quantize"])
        samples = {
            entry.name: to_input(labelled.x_test[:GOLDEN_SAMPLES], entry, "the test samples")
        }
        choices: dict[str, dict[str, str]] = {}
        for i, target in enumerate(self.targets):

            def tell(layer: str, fraction: float, i: int = i, target: str = target) -> None:
                progress(f"measuring {layer} on {target}", (i + fraction) / len(self.targets))

            progress(f"C for {target}", i / len(self.targets))
            made = generate(
                graph,
                target_named(target),
                name=self.c_name,
                options=self.code,
                samples=samples,
                tune=self.tune,
                progress=tell,
                model_sha256=model.sha256,
                front_end=self.front_end,
            )
            write_folder(out_dir / target, made.files)
            if made.tuning is not None:
                choices[target] = dict(made.tuning.choice)
        write_metrics(out_dir, choices, CHOICES)
