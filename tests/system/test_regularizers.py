"""Training with compression in mind: formulas by hand, and what each does to trained weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from torch import Tensor, nn  # noqa: E402

from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.config import Augment, Constraint, Sparsity, parse_config  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.training.distillation import Distillation  # noqa: E402
from tinsmith.pipeline.training.loop import Recipe, fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import Labels  # noqa: E402
from tinsmith.pipeline.training.networks import LAYERS, accuracy  # noqa: E402
from tinsmith.pipeline.training.regularizers import (  # noqa: E402
    CONSTRAINTS,
    PENALTIES,
    constrained,
    penalty,
)

W = torch.tensor([[[3.0], [-4.0]], [[0.0], [1.0]]])  # two outputs, lengths 5 and 1

FORMULAS = {
    "l1": 8.0,
    "l2": 26.0,
    "group-lasso": math.sqrt(2) * 6.0,
    "hoyer": 64.0 / 26.0,
}


def test_penalties_are_their_formulas() -> None:
    assert {name: float(term(W)) for name, term in PENALTIES.items()} == pytest.approx(FORMULAS)
    layer = nn.Linear(2, 2)
    layer.weight.data.copy_(W[..., 0])
    terms = [Sparsity(kind="l1", weight=0.5), Sparsity(kind="l2", weight=2.0)]
    found = penalty(nn.Sequential(layer, nn.BatchNorm1d(2)), terms)
    assert found.item() == pytest.approx(56.0)


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (Constraint(kind="max-norm", limit=2.5), [[1.5, -2.0], [0.0, 1.0]]),
        (Constraint(kind="clip", limit=2.0), [[2.0, -2.0], [0.0, 1.0]]),
        (Constraint(kind="soft-clip", limit=1.0, amount=0.5), [[2.0, -2.5], [0.0, 1.0]]),
        # Towards the mean magnitude of each output: 3.5 and 0.5.
        (Constraint(kind="soft-clip", amount=0.5), [[3.25, -3.75], [0.0, 0.75]]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_constraints_are_their_formulas(
    constraint: Constraint, expected: list[list[float]]
) -> None:
    changed = CONSTRAINTS[constraint.kind](W, constraint)
    torch.testing.assert_close(changed[..., 0], torch.tensor(expected))


SAMPLES = corner_samples(160, 80)


def recipe(epochs: int, *constraints: Constraint) -> Recipe:
    still = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    return Recipe(epochs, 20, 5e-3, 0.0, still, 7, constraints)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 25, 24),
        nn.ReLU(), nn.Linear(24, 4),
    )  # fmt: skip


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def trained(
    folder: Path, *, sparsity: tuple[Sparsity, ...] = (), constraints: tuple[Constraint, ...] = ()
) -> nn.Module:
    with repeatable(2, 1):
        net = network()
        loss = Distillation(network(), [Labels(1.0)], sparsity)
        fit(net, SAMPLES, recipe(8, *constraints), loss, folder / "c.pt", quiet)
    (folder / "c.pt").unlink()
    assert accuracy(net, SAMPLES.x_test, SAMPLES.y_test) > 60
    return net


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return trained(tmp_path_factory.mktemp("plain"))


def weights(net: nn.Module) -> list[Tensor]:
    return [layer.weight.detach() for layer in net.modules() if isinstance(layer, LAYERS)]


def small_share(net: nn.Module) -> float:
    """The share of the hidden layer's weights that are tiny beside its largest."""
    hidden = weights(net)[1].abs()
    return float((hidden < 0.01 * hidden.max()).double().mean())


def small_outputs(net: nn.Module) -> float:
    """The share of the hidden layer's outputs that are much shorter than its longest."""
    lengths = weights(net)[1].norm(dim=1)
    return float((lengths < 0.05 * lengths.max()).double().mean())


def size(net: nn.Module) -> float:
    return sum(float(w.square().sum()) for w in weights(net))


def crowding(net: nn.Module) -> float:
    """(sum of magnitudes)^2 / sum of squares, a weight, of the hidden layer."""
    return float(PENALTIES["hoyer"](weights(net)[1])) / weights(net)[1].numel()


# The term, what it changes, and whether for more or less.
EFFECTS: dict[str, tuple[float, Callable[[nn.Module], float], bool]] = {
    "l1": (1e-3, small_share, True),
    "l2": (1e-2, size, False),
    "group-lasso": (1e-3, small_outputs, True),
    "hoyer": (1e-4, crowding, False),
}


@pytest.mark.parametrize("kind", PENALTIES)
def test_each_term_does_to_the_weights_what_it_is_for(
    kind: str, plain: nn.Module, tmp_path: Path
) -> None:
    weight, measure, more = EFFECTS[kind]
    net = trained(tmp_path, sparsity=(Sparsity.model_validate({"kind": kind, "weight": weight}),))
    before, after = measure(plain), measure(net)
    assert after > 1.5 * before + 0.05 if more else after < before / 1.5


def test_trained_weights_obey_the_constraints(plain: nn.Module, tmp_path: Path) -> None:
    longest = max(float(w.flatten(1).norm(dim=1).max()) for w in weights(plain))
    largest = max(float(w.abs().max()) for w in weights(plain))
    assert longest > 0.8
    assert largest > 0.2
    limits = (Constraint(kind="max-norm", limit=0.8), Constraint(kind="clip", limit=0.2))
    for w in weights(trained(tmp_path, constraints=limits)):
        assert float(w.flatten(1).norm(dim=1).max()) <= 0.8 + 1e-6
        assert float(w.abs().max()) <= 0.2 + 1e-6


def test_soft_clipping_makes_ranges_narrow_for_their_content(
    plain: nn.Module, tmp_path: Path
) -> None:
    def spread(net: nn.Module) -> float:
        hidden = weights(net)[1].abs()
        return float((hidden.amax(1) / hidden.mean(1)).mean())

    net = trained(tmp_path, constraints=(Constraint(kind="soft-clip", amount=0.02),))
    assert spread(net) < 0.8 * spread(plain)


def test_weight_norm_trains_length_and_direction_apart_and_leaves_a_plain_network(
    plain: nn.Module, tmp_path: Path
) -> None:
    constraints = (Constraint(kind="weight-norm"), Constraint(kind="max-norm", limit=1.5))
    net = trained(tmp_path, constraints=constraints)
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert type(net[0]) is nn.Conv2d
    assert all(float(w.flatten(1).norm(dim=1).max()) <= 1.5 + 1e-5 for w in weights(net))
    assert not torch.equal(weights(net)[1], weights(plain)[1])
    with constrained(net, constraints[:1]):
        names = {name for name, _ in net[0].named_parameters()}
    assert {"parametrizations.weight.original0", "parametrizations.weight.original1"} <= names


def test_a_training_with_constraints_goes_on_where_it_was(tmp_path: Path) -> None:
    constraints = (Constraint(kind="weight-norm"), Constraint(kind="soft-clip", amount=0.01))

    def train(name: str, stop_after: int | None) -> list[Tensor]:
        def tell(message: str, fraction: float | None = None) -> None:
            if stop_after and message.startswith(f"epoch {stop_after}/"):
                raise KeyboardInterrupt

        with repeatable(3, 1):
            net = network()
            loss = Distillation(network(), [Labels(1.0)], [Sparsity(kind="l1", weight=1e-4)])
            fit(net, SAMPLES, recipe(4, *constraints), loss, tmp_path / name, tell)
        return [*net.state_dict().values()]

    whole = train("whole.pt", None)
    with pytest.raises(KeyboardInterrupt):
        train("part.pt", 2)
    assert all(torch.equal(a, b) for a, b in zip(whole, train("part.pt", None), strict=True))


def test_what_is_measured_of_a_network_is_without_the_terms() -> None:
    net = network().eval()
    x, y = SAMPLES.x_test[:8], SAMPLES.y_test[:8]
    plain, sparse = (
        Distillation(net, [Labels(1.0)], terms) for terms in ((), [Sparsity(kind="l1", weight=1.0)])
    )
    assert torch.equal(plain(net, x, y), sparse(net, x, y))
    assert float(sparse(net.train(), x, y)) > float(plain(net, x, y)) + 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sparsity": [{"kind": "l3", "weight": 1.0}]}, "kind = \"l3\": allowed: 'l1', 'l2', 'gr"),
        ({"sparsity": [{"kind": "l1"}]}, "[[distil.sparsity]] 1 weight: is missing"),
        ({"constraints": [{"kind": "clip"}]}, '1: kind = "clip" needs a limit, like limit = 1.0'),
        (
            {"constraints": [{"kind": "weight-norm", "limit": 1.0}]},
            '1 limit: kind = "weight-norm" has no such key; allowed: kind',
        ),
        (
            {"constraints": [{"kind": "clip", "limit": 1.0}, {"kind": "max-norm", "limit": 0.0}]},
            "[[distil.constraints]] 2 limit = 0.0: must be greater than 0",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_tables_is_told(table: dict[str, object], message: str) -> None:
    tables = {"teacher": {"model": "m.py:T"}, "distil": {"model": "m.py:S", **table}}
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_config(tables, Path("tinsmith.toml"))
