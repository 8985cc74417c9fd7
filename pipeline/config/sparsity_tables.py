"""The tables [[distil.sparsity]] and [[distil.constraints]]."""

from typing import Annotated, Literal

from pydantic import Field

from tinsmith.pipeline.config.values import Table


class Sparsity(Table):
    """A term of the weights that is added to the loss: tables `[[distil.sparsity]]`, for networks
    that shall be compressed. Trains the student, and what is left of it while it is pruned.
    """

    kind: Literal["l1", "l2", "group-lasso", "hoyer"] = Field(
        description=(
            "What is summed over the weights of all convolutions and linear layers. `l1`: "
            "magnitudes; `l2`: squares; `group-lasso`: lengths of the outputs' weights (Yuan & Lin "
            "2006, Wen et al. 2016); `hoyer`: (sum of magnitudes)^2 / sum of squares of a layer, "
            "which does not mind its scale (Yang et al. 2020)."
        )
    )
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="lambda, what the sum is multiplied by."
    )


class Constraint(Table):
    """What the weights of all convolutions and linear layers have to obey while they are trained:
    tables `[[distil.constraints]]`, in order after each step. For the student, and what is left of
    it while it is pruned.
    """

    kind: Literal["weight-norm", "max-norm", "clip", "soft-clip"] = Field(
        description=(
            "`weight-norm`: length and direction of an output's weights are trained apart, w = g v "
            "/ length of v (Salimans & Kingma 2016). `max-norm`: an output's weights are no longer "
            "than `limit` (Srebro et al. 2005). `clip`: no weight is larger than `limit`. "
            "`soft-clip`: w becomes w (1 - amount) + amount limit sign(w)."
        )
    )
    limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description=(
            "`max-norm`, `clip`, `soft-clip`; for `soft-clip` it may be left out, and is the mean "
            "magnitude of the output's weights then, which stays as it is."
        ),
    )
    amount: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.001, description="`soft-clip`: how much in each step."
    )
