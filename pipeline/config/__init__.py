"""`tinsmith.toml`: its tables and keys, read strictly by `load_config`.

`configuration_markdown()` is the text of docs/configuration.md; after a change:
`python -m tinsmith.pipeline.config > docs/configuration.md`.
"""

from tinsmith.pipeline.config.audio_tables import Audio
from tinsmith.pipeline.config.cluster_table import Cluster
from tinsmith.pipeline.config.compress_table import Compress
from tinsmith.pipeline.config.factorize_table import Factorize
from tinsmith.pipeline.config.page import configuration_markdown
from tinsmith.pipeline.config.read import CONFIG_NAME, load_config, parse_config
from tinsmith.pipeline.config.sparsity_tables import Constraint, Sparsity
from tinsmith.pipeline.config.tables import (
    Config,
    Gates,
    Generate,
    Run,
    TargetGates,
    Validate,
    c_name,
)
from tinsmith.pipeline.config.training_tables import (
    Augment,
    Data,
    Distil,
    DistilTerm,
    Prune,
    Quantize,
    Teacher,
)
from tinsmith.pipeline.config.values import CodeRef

__all__ = [
    "CONFIG_NAME",
    "Audio",
    "Augment",
    "Cluster",
    "CodeRef",
    "Compress",
    "Config",
    "Constraint",
    "Data",
    "Distil",
    "DistilTerm",
    "Factorize",
    "Gates",
    "Generate",
    "Prune",
    "Quantize",
    "Run",
    "Sparsity",
    "TargetGates",
    "Teacher",
    "Validate",
    "c_name",
    "configuration_markdown",
    "load_config",
    "parse_config",
]
