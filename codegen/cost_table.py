"""The coefficients of cost.py, fitted to measurements in the emulator.

`python bench/fit_costs.py` measures them and writes this file: cores -> kernel -> what is
estimated -> quantity of the layer -> what each unit of it adds.
"""

from collections.abc import Mapping

TABLE: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = {}
