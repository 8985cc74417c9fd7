"""What compression did beyond the mean: classes, agreement, disturbed samples, what flipped.

The networks are those of a run in their order, the teacher first and the integers last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.insight.disturbances import DISTURBANCES, Samples, disturbed

# From samples [N, ...] as torch has them to outputs [N, classes].
Say = Callable[[Samples], NDArray[Any]]
Tell = Callable[[str, float], None]

# How many samples that flipped are shown, half of them each way.
SHOWN = 24


@dataclass(frozen=True)
class Robustness:
    """accuracies: in percent, by network, on samples that were changed so."""

    disturbance: str
    level: float
    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class Flips:
    """How many samples one network has right and the next one wrong, and the other way."""

    before: str
    after: str
    lost: int
    gained: int


@dataclass(frozen=True)
class Flipped:
    """A test sample that the first and the last network disagree on. said: the class by network.

    lost: whether the first one has it right, and not the last one; else it is the other way.
    """

    sample: int
    label: int
    lost: bool
    said: Mapping[str, int]


@dataclass(frozen=True)
class Effects:
    """samples: all test samples; disturbed_samples: how many of them were changed.

    accuracy: by network, in percent. per_class: by network, of each class; None where no test
    sample is of it. agreement: the share of samples, in percent, of which a network says what the
    first one does. left_out: what was not measured, and why.
    """

    samples: int
    disturbed_samples: int
    networks: tuple[str, ...]
    accuracy: Mapping[str, float]
    per_class: Mapping[str, tuple[float | None, ...]]
    agreement: Mapping[str, float]
    robustness: tuple[Robustness, ...]
    flips: tuple[Flips, ...]
    flipped: tuple[Flipped, ...]
    left_out: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def effects_of(
    networks: Mapping[str, Say],
    x: Samples,
    y: NDArray[np.int64],
    classes: int,
    *,
    images: bool,
    count: int,
    seed: int,
    tell: Tell,
) -> Effects:
    """Measure on test samples x [N, ...], `count` of which are disturbed. images: x is [N, C, H, W]
    of 0..1.
    """
    names = tuple(networks)
    outputs = {name: say(x) for name, say in networks.items()}
    said = {name: out.argmax(1) for name, out in outputs.items()}
    right = {name: classes_said == y for name, classes_said in said.items()}
    tell("samples as they are", 0.1)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(y))[:count])
    robustness, left_out = _robustness(networks, x[chosen], y[chosen], images, seed, tell)
    pairs = list(pairwise(names))
    if len(names) > 2:
        pairs.append((names[0], names[-1]))
    return Effects(
        len(y),
        len(chosen),
        names,
        {name: _percent(right[name]) for name in names},
        {name: _per_class(right[name], y, classes) for name in names},
        {name: _percent(said[name] == said[names[0]]) for name in names},
        robustness,
        tuple(_flips(a, b, right) for a, b in pairs),
        _flipped(said, right, y, outputs[names[0]]),
        left_out,
    )


def _robustness(
    networks: Mapping[str, Say],
    x: Samples,
    y: NDArray[np.int64],
    images: bool,
    seed: int,
    tell: Tell,
) -> tuple[tuple[Robustness, ...], tuple[str, ...]]:
    found: list[Robustness] = []
    without = [name for name, d in DISTURBANCES.items() if d.images and not images]
    for name, disturbance in DISTURBANCES.items():
        for level in disturbance.levels if name not in without else ():
            tell(f"{name} {level:g}", 0.1 + 0.9 * len(found) / (3 * len(DISTURBANCES) + 2))
            changed = disturbed(x, name, level, seed, images)
            accuracies = {n: _percent(say(changed).argmax(1) == y) for n, say in networks.items()}
            found.append(Robustness(name, level, accuracies))
    why = f"{', '.join(without)}: the samples are no images" if without else ""
    return tuple(found), (why,) if why else ()


def _percent(right: NDArray[np.bool_]) -> float:
    return round(float(100 * right.mean()), 4)


def _per_class(
    right: NDArray[np.bool_], y: NDArray[np.int64], classes: int
) -> tuple[float | None, ...]:
    return tuple(_percent(right[y == c]) if (y == c).any() else None for c in range(classes))


def _flips(before: str, after: str, right: Mapping[str, NDArray[np.bool_]]) -> Flips:
    lost = int((right[before] & ~right[after]).sum())
    gained = int((~right[before] & right[after]).sum())
    return Flips(before, after, lost, gained)


def _flipped(
    said: Mapping[str, NDArray[np.int64]],
    right: Mapping[str, NDArray[np.bool_]],
    y: NDArray[np.int64],
    first: NDArray[Any],
) -> tuple[Flipped, ...]:
    """At most SHOWN samples; of those lost and those gained those first that the first network is
    surest of."""
    names = list(said)
    ordered = np.sort(first.astype(np.float64), axis=1)
    surest = np.argsort(-(ordered[:, -1] - ordered[:, -2]), kind="stable")
    before, after = right[names[0]], right[names[-1]]

    def of(mask: NDArray[np.bool_], lost: bool, most: int) -> Sequence[Flipped]:
        return [
            Flipped(int(i), int(y[i]), lost, {name: int(said[name][i]) for name in names})
            for i in surest[mask[surest]][:most]
        ]

    lost = of(before & ~after, True, SHOWN // 2)
    gained = of(~before & after, False, SHOWN // 2)
    return (*lost, *gained)
