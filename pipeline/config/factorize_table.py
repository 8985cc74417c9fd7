"""The table [factorize]."""

from typing import Annotated, Literal

from pydantic import Field

from tinsmith.pipeline.config.values import Positive, Rate, Table


class Factorize(Table):
    """Low rank: layers replaced by products of smaller ones where that saves multiply-accumulates,
    then training on what the network said before. It comes between `distil` and `prune`.
    """

    ranks: Literal["off", "automatic", "budget", "energy"] = Field(
        default="off",
        description=(
            "How ranks are chosen. `automatic`: the network keeps `macs`, and each MAC goes to the "
            "layer where it takes back most error. `budget`: each layer keeps `macs` of its own. "
            "`energy`: each layer keeps `energy`. `off`: the stage takes no part."
        ),
    )
    macs: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.5,
        description="`automatic`, `budget`: share of the multiply-accumulates to keep at most.",
    )
    energy: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.9,
        description="`energy`: share of the squares of a layer's weights to keep at least.",
    )
    convolution: Literal["best", "spatial", "tucker"] = Field(
        default="best",
        description=(
            "What a convolution becomes. `spatial`: k x 1, then 1 x k (Jaderberg et al. 2014); "
            "`tucker`: 1x1, k x k, 1x1 (Kim et al. 2016); `best`: the better one in each layer. "
            "Linear layers and 1x1 convolutions become two of their kind by SVD."
        ),
    )
    multiple_of: Positive = Field(
        default=4, description="Ranks are multiples of this, which kernels like."
    )
    epochs: Annotated[int, Field(ge=0)] = Field(
        default=16, description="Passes over the training samples afterwards."
    )
    batch: Positive = Field(default=100, description="Samples in one step.")
    learning_rate: Rate = Field(default=2e-3, description="The peak of the one-cycle schedule.")

    @property
    def takes_part(self) -> bool:
        return self.ranks != "off"
