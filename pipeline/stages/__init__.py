"""The stages, in order: the table that `tinsmith run` walks. torch is loaded only inside `run`."""

from __future__ import annotations

from tinsmith.pipeline.config import Config
from tinsmith.pipeline.flow import Stage
from tinsmith.pipeline.stages.build import BuildImages
from tinsmith.pipeline.stages.cluster import ClusterStudent
from tinsmith.pipeline.stages.distil import DistilStudent
from tinsmith.pipeline.stages.factorize import FactorizeStudent
from tinsmith.pipeline.stages.generate import GenerateCode
from tinsmith.pipeline.stages.load import Load
from tinsmith.pipeline.stages.prune import PruneStudent
from tinsmith.pipeline.stages.quantize import QuantizeStudent
from tinsmith.pipeline.stages.teacher import TrainTeacher
from tinsmith.pipeline.stages.validate import ValidateTargets

STAGES = (
    Load,
    TrainTeacher,
    DistilStudent,
    FactorizeStudent,
    PruneStudent,
    ClusterStudent,
    QuantizeStudent,
    GenerateCode,
    BuildImages,
    ValidateTargets,
)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """Every stage that takes part, with its options from a configuration."""
    takes_part = {
        FactorizeStudent: config.factorize.takes_part,
        ClusterStudent: config.cluster.takes_part,
    }
    return tuple(stage.from_config(config) for stage in STAGES if takes_part.get(stage, True))
