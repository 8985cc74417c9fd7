"""Maximum and Minimum of two tensors, broadcasting; all of one scale, so that integers compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops import add
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, Values


def _op(name: str, title: str, choose: Callable[[Any, Any], Any]) -> OpDef:
    def run(call: OpCall, values: Values) -> tuple[Array, ...]:
        return (np.asarray(choose(values[0], values[1])),)

    return OpDef(
        name=name,
        title=title,
        infer=add.infer,
        run_float=run,
        run_int=run,
        scale_rule=ScaleRule.ALL_SAME,
        accepts=add.accepts,
        data_inputs=2,
        int16=Oracle.TFLM,
    )


MAXIMUM = _op("maximum", "the greater of two, broadcasting", np.maximum)
MINIMUM = _op("minimum", "the lesser of two, broadcasting", np.minimum)
