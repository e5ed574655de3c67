"""The oracles' machine code, loaded before it is needed: processes that are forked from this one have it too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gdn_verify.cases.contract import Geometry, Options, Span, Stage
from gdn_verify.oracles.compose import Algorithm, Problem, clean, evaluate


def load() -> None:
    """Evaluate one token of ones, by each algorithm; what is not kept on disk is compiled."""
    problem = Problem(
        geometry=Geometry(H=1, HV=1, K=1, V=1, W=2),
        options=Options(),
        span=Span(Stage.CONV, Stage.NORM),
        query_start_loc=np.array([0, 1]),
        tensors={
            "x": np.ones((1, 3)), "conv_weight": np.ones((3, 2)), "a": np.ones((1, 1)), "b": np.ones((1, 1)),
            "A_log": np.ones(1), "dt_bias": np.ones(1), "z": np.ones((1, 1, 1)), "norm_weight": np.ones(1),
        },
        state=np.ones((1, 1, 1, 1)),
        history=np.ones((1, 3, 1)),
    )  # fmt: skip
    for algorithm in Algorithm:
        evaluate(problem, replace(clean(), algorithm=algorithm))
