"""The table [cluster]."""

from typing import Annotated, Literal

from pydantic import Field

from tinsmith.pipeline.config.values import Positive, Rate, Table

_MOST_BITS = 12


class Cluster(Table):
    """Weight sharing: a layer's weights become few values, found by k-means and trained, and the
    network a file of coded weights. It comes between `prune` and `quantize`.
    """

    bits: Annotated[int, Field(ge=0, le=_MOST_BITS)] = Field(
        default=0,
        description=(
            "Bits of a weight's code in every layer: 2^bits - 1 values at most, and 0. 0: layers "
            "stay as they are, and the stage takes no part where `layer_bits` names none."
        ),
    )
    layer_bits: dict[str, Annotated[int, Field(ge=1, le=_MOST_BITS)]] = Field(
        default={},
        description='Bits of single layers, by their path in the network: `{ "features.0" = 5 }`.',
    )
    start: Literal["linear", "density", "random"] = Field(
        default="linear",
        description=(
            "Where k-means begins. `linear`: values evenly spaced from the least to the greatest "
            "weight, which keeps the rare large ones; `density`: at evenly spaced ranks; `random`: "
            "weights drawn by the seed."
        ),
    )
    epochs: Annotated[int, Field(ge=0)] = Field(
        default=6, description="Passes over the training samples that train the shared values."
    )
    batch: Positive = Field(default=100, description="Samples in one step.")
    learning_rate: Rate = Field(default=5e-4, description="The peak of the one-cycle schedule.")

    @property
    def takes_part(self) -> bool:
        return bool(self.bits or self.layer_bits)
