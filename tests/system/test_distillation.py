"""Distillation: each kind of term by hand and by its limits, teachers of several networks,
assistants, generations, a student cut out of its teacher, images without labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="cutting needs torch-pruning")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from tinsmith.pipeline.config import Augment, Distil, DistilTerm, load_config  # noqa: E402
from tinsmith.pipeline.errors import ConfigError, DataError  # noqa: E402
from tinsmith.pipeline.flow import Event, run_flow  # noqa: E402
from tinsmith.pipeline.stages.distil import DistilStudent  # noqa: E402
from tinsmith.pipeline.stages.load import Load  # noqa: E402
from tinsmith.pipeline.stages.prune import PruneStudent  # noqa: E402
from tinsmith.pipeline.stages.teacher import TrainTeacher  # noqa: E402
from tinsmith.pipeline.tasks import Task  # noqa: E402
from tinsmith.pipeline.training.cutting import cut_from  # noqa: E402
from tinsmith.pipeline.training.distillation import TERMS, Distillation, distillation  # noqa: E402
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import (  # noqa: E402
    NO_LABEL,
    Answers,
    Attention,
    DecoupledAnswers,
    HardAnswers,
    Hint,
    Labels,
    Relations,
    SoftAnswers,
    Term,
    cross_entropy,
)

N, CLASSES = 6, 4
STUDENT = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1))
TEACHER = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(2)) * 3
LABELS = torch.tensor([0, 3, 1, 2, 2, 0])


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(seed))


def value(term: Term, y: Tensor = LABELS, student: Tensor = STUDENT) -> float:
    return float(term(Answers(student, {}), Answers(TEACHER, {}), y))


def test_soft_answers_are_the_divergence_times_the_square_of_the_temperature() -> None:
    target = torch.softmax(TEACHER / 4, 1)
    by_hand = 16 * (target * (target.log() - torch.log_softmax(STUDENT / 4, 1))).sum(1).mean()
    assert value(SoftAnswers(0.5, 4.0)) == pytest.approx(0.5 * float(by_hand), rel=1e-5)
    assert value(SoftAnswers(1, 4.0), student=TEACHER) == pytest.approx(0, abs=1e-5)


def test_hard_answers_are_the_teachers_classes_as_labels() -> None:
    by_hand = F.cross_entropy(STUDENT, TEACHER.argmax(1))
    assert value(HardAnswers(2.0)) == pytest.approx(2 * float(by_hand))


def test_decoupled_terms_weighted_as_in_the_usual_loss_are_that_loss() -> None:
    """KL = TCKD + (1 - p_target of the teacher) NCKD (Zhao et al., equation 7): image by image."""
    for i in range(N):
        student, teacher = Answers(STUDENT[i : i + 1], {}), Answers(TEACHER[i : i + 1], {})
        y = LABELS[i : i + 1]
        doubt = 1 - float(torch.softmax(TEACHER[i] / 2, 0)[y[0]])
        decoupled = DecoupledAnswers(1.0, 2.0, alpha=1.0, beta=doubt)(student, teacher, y)
        usual = SoftAnswers(1.0, 2.0)(student, teacher, y)
        assert float(decoupled) == pytest.approx(float(usual), rel=1e-4)


def test_decoupled_answers_take_the_teachers_class_where_there_is_no_label() -> None:
    none = torch.full_like(LABELS, NO_LABEL)
    term = DecoupledAnswers(1.0, 4.0, 1.0, 8.0)
    assert value(term, none) == value(term, TEACHER.argmax(1))


def test_labels_that_are_missing_count_for_nothing() -> None:
    some = torch.tensor([0, NO_LABEL, 1, NO_LABEL, 2, NO_LABEL])
    by_hand = F.cross_entropy(STUDENT[::2], some[::2])
    assert value(Labels(1.0), some) == pytest.approx(float(by_hand))
    assert float(cross_entropy(STUDENT, torch.full((N,), NO_LABEL))) == 0


def test_a_hint_learns_the_map_between_layers_of_other_widths_and_sizes() -> None:
    own, shown = features(3, 5, 8, 8), features(4, 7, 4, 4)
    student, teacher = Answers(STUDENT, {"a": own}), Answers(TEACHER, {"b": shown})
    term = Hint(1.0, "a", "b")
    term.learn_shapes(student, teacher)
    assert [list(p.shape) for p in term.parameters()] == [[7, 5, 1, 1], [7]]
    mapped = F.conv2d(F.avg_pool2d(own, 2), term.map.weight, term.map.bias)
    by_hand = 0.5 * (mapped - shown).square().mean()
    torch.testing.assert_close(term(student, teacher, LABELS), by_hand)


def test_attention_compares_where_layers_are_active_whatever_their_widths_and_scales() -> None:
    own = features(5, 3, 6, 6)
    wide = torch.cat([own, own], 1) * 7
    student, teacher = Answers(STUDENT, {"a": own}), Answers(TEACHER, {"b": wide})
    assert float(Attention(1.0, "a", "b")(student, teacher, LABELS)) == pytest.approx(0, abs=1e-6)
    other = Answers(TEACHER, {"b": wide.flip(2)})
    maps = [F.normalize(f.square().sum(1).flatten(1), dim=1) for f in (own, wide.flip(2))]
    by_hand = 0.5 * (maps[0] - maps[1]).square().sum(1).mean()
    torch.testing.assert_close(Attention(1.0, "a", "b")(student, other, LABELS), by_hand)


def test_relations_do_not_change_when_all_is_turned_moved_and_scaled() -> None:
    points = features(6, CLASSES)
    turn, _ = torch.linalg.qr(
        torch.randn(CLASSES, CLASSES, generator=torch.Generator().manual_seed(7))
    )
    moved = 3 * points @ turn + 5
    same = Relations(1.0)(Answers(points, {}), Answers(moved, {}), LABELS)
    assert float(same) == pytest.approx(0, abs=1e-6)
    distance = F.pdist(points) / F.pdist(points).mean() - F.pdist(TEACHER) / F.pdist(TEACHER).mean()
    by_hand = torch.where(distance.abs() < 1, distance**2 / 2, distance.abs() - 0.5).mean()
    whole = Relations(1.0)(Answers(points, {}), Answers(TEACHER, {}), LABELS)
    assert float(whole) > float(by_hand) > 0


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["hint", "attention", "relations"])
def test_the_hidden_states_of_an_lstm_are_compared_with_the_channels_of_a_convolution(
    kind: str, batch_first: bool
) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(5, 7, batch_first=batch_first)
            self.head = nn.Linear(7, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            y = self.lstm(x if batch_first else x.transpose(0, 1))[0]
            return self.head(y.mean(1 if batch_first else 0))

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv1d(5, 12, 3), nn.Linear(12, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x.transpose(1, 2)).mean(2))

    torch.manual_seed(0)
    student, teacher, x = Recurrent(), Convolution(), torch.randn(N, 9, 5)
    term = DistilTerm.model_validate(
        {"kind": kind, "student_layer": "lstm", "teacher_layer": "conv"}
    )
    options = Distil.model_construct(terms=[term])
    loss = distillation(options, teacher, student, x[:1])
    states: list[Tensor] = []
    student.lstm.register_forward_hook(lambda *call: states.append(call[2][0]))
    loss(student, x, LABELS).backward()
    [own] = states
    channels = own.permute(0, 2, 1) if batch_first else own.permute(1, 2, 0)
    assert channels.shape == (N, 7, 9)
    by_hand = loss.terms[0](
        Answers(student(x), {"lstm": channels}),
        Answers(teacher(x), {"conv": teacher.conv(x.transpose(1, 2))}),
        LABELS,
    )
    assert float(loss(student, x, LABELS)) == pytest.approx(float(by_hand), rel=1e-5)
    assert student.lstm.weight_hh_l0.grad is not None


def test_one_image_has_no_relations() -> None:
    one = Answers(STUDENT[:1].clone().requires_grad_(), {})
    loss = Relations(1.0)(one, Answers(TEACHER[:1], {}), LABELS[:1])
    loss.backward()
    assert float(loss.detach()) == 0


class Net(nn.Module):
    """A convolution, a depthwise one added to its input, and a linear layer."""

    def __init__(self, width: int, hidden: int = 12, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width))
        self.middle = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.hidden = nn.Linear(width * 9, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = F.max_pool2d(torch.relu(x + self.middle(x)), 3)
        return self.head(torch.relu(self.hidden(x.flatten(1))))


def bars(count: int, seed: int) -> tuple[Any, Any]:
    """Bright bars on noise, uint8 [N, 12, 12]: lying, standing, slanting."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = rng.integers(0, 60, (count, 12, 12), dtype=np.uint8)
    for image, label in zip(x, labels, strict=True):
        place = rng.integers(2, 10)
        image[
            (place, slice(None), np.arange(12))[label], (slice(None), place, np.arange(12))[label]
        ] = 220
    return x, labels


def samples_of_bars() -> Samples:
    parts = {}
    for name, count, seed in (("train", 120, 1), ("test", 60, 2)):
        x, y = bars(count, seed)
        parts[f"x_{name}"] = torch.from_numpy(x.astype(np.float32)[:, None] / 255)
        parts[f"y_{name}"] = torch.from_numpy(y.astype(np.int64))
    return Samples(**parts, tasks=(Task("", 3),))


def recipe(epochs: int) -> Recipe:
    still = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    return Recipe(epochs, 20, 1e-2, 1e-4, still, 7)


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def options(*terms: DistilTerm) -> Distil:
    return Distil.model_construct(terms=list(terms), alpha=0.9, temperature=4.0)


EVERY_TERM = [
    DistilTerm(kind="labels"),
    DistilTerm(kind="soft"),
    DistilTerm(kind="hard"),
    DistilTerm(kind="decoupled"),
    DistilTerm(kind="hint", student_layer="middle", teacher_layer="first"),
    DistilTerm(kind="attention", student_layer="middle", teacher_layer="middle"),
    DistilTerm(kind="relations", student_layer="hidden", teacher_layer="hidden"),
]


def test_every_kind_of_term_is_tried_here() -> None:
    # A loss of the user's own is tried in test_own_parts.py.
    assert {term.kind for term in EVERY_TERM} == set(TERMS) - {"python"}


@pytest.mark.parametrize("term", EVERY_TERM, ids=lambda term: term.kind)
def test_each_kind_of_term_makes_the_student_more_like_what_it_learns_from(
    term: DistilTerm, tmp_path: Path
) -> None:
    samples, sample = samples_of_bars(), torch.zeros(1, 1, 12, 12)
    with repeatable(5, 1):
        teacher, student = Net(12).eval(), Net(6)
        loss = distillation(options(term), teacher, student, sample)

        def now() -> float:
            with torch.no_grad():
                return float(loss(student.eval(), samples.x_test, samples.y_test))

        before = now()
        fit(student, samples, recipe(6), loss, tmp_path / "c.pt", quiet)
    assert now() < 0.8 * before
    assert all(p.grad is None for p in teacher.parameters())


def test_what_a_term_learns_is_kept_by_the_checkpoint(tmp_path: Path) -> None:
    samples, sample = samples_of_bars(), torch.zeros(1, 1, 12, 12)
    term = DistilTerm(kind="hint", student_layer="first", teacher_layer="first")

    def train(name: str, stop_after: int | None) -> list[Tensor]:
        def tell(message: str, fraction: float | None = None) -> None:
            if stop_after and message.startswith(f"epoch {stop_after}/"):
                raise KeyboardInterrupt

        with repeatable(3, 1):
            teacher, student = Net(8).eval(), Net(4)
            loss = distillation(options(term), teacher, student, sample)
            fit(student, samples, recipe(4), loss, tmp_path / name, tell)
        return [*student.state_dict().values(), *loss.state_dict().values()]

    whole = train("whole.pt", None)
    with pytest.raises(KeyboardInterrupt):
        train("part.pt", 2)
    assert all(torch.equal(a, b) for a, b in zip(whole, train("part.pt", None), strict=True))


def test_the_teachers_weights_are_no_part_of_the_loss() -> None:
    loss = Distillation(Net(4), [Labels(1.0)])
    assert not list(loss.parameters())


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            DistilTerm(kind="hint", student_layer="frist", teacher_layer="first"),
            r'1, kind = "hint": student_layer = "frist": there is no such layer; allowed: first,',
        ),
        (
            DistilTerm(kind="hint", student_layer="first", teacher_layer="hidden"),
            r"\[1, 4, 10, 10\] and \[1, 12\]; both need the same number of axes, one of 2, 3, 4",
        ),
        (
            DistilTerm(kind="attention", student_layer="hidden", teacher_layer="hidden"),
            r"number of axes, one of 3, 4",
        ),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit_are_refused(term: DistilTerm, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        distillation(options(term), Net(8), Net(4), torch.zeros(1, 1, 12, 12))


def test_a_student_is_cut_out_of_its_teacher_with_the_channels_that_matter() -> None:
    torch.manual_seed(0)
    teacher, student, sample = Net(8).eval(), Net(4, hidden=5), torch.zeros(1, 1, 12, 12)
    with torch.no_grad():  # what channels 1, 2, 5, 7 do is nothing
        for channel in (1, 2, 5, 7):
            teacher.first[0].weight[channel] = 0
            teacher.first[1].weight[channel] = 0
            teacher.first[1].bias[channel] = 0
            teacher.middle.weight[channel] = 0
            teacher.middle.bias[channel] = 0
            teacher.hidden.weight[:, channel * 9 : channel * 9 + 9] = 0
        for unit in (0, 2, 3, 4, 8, 10, 11):
            teacher.hidden.weight[unit] = 0
            teacher.hidden.bias[unit] = 0
            teacher.head.weight[:, unit] = 0
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    cut_from(teacher, student, sample)
    x = torch.rand(5, 1, 12, 12)
    torch.testing.assert_close(student.eval()(x), teacher(x))
    assert all(torch.equal(before[name], t) for name, t in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (Net(10), "'first.0' is wider in the student (10) than in the teacher (8)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), "the teacher has no layer '1'"),
    ],
    ids=["wider", "other layers"],
)
def test_a_student_that_can_not_be_cut_out_is_refused(student: nn.Module, message: str) -> None:
    import re

    with pytest.raises(ConfigError, match=re.escape(message)):
        cut_from(Net(8), student, torch.zeros(1, 1, 12, 12))


MODELS = """
from torch import nn

def net(width, classes):
    return nn.Sequential(nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Flatten(),
                         nn.Linear(width * 25, classes))

def Big(classes): return net(16, classes)
def Other(classes): return net(12, classes)
def Middle(classes): return net(8, classes)
def Small(classes): return net(4, classes)
"""

CONFIG = """
[data]
source = "npz"
path = "data.npz"
unlabelled = "more.npz"
[teacher]
model = "models.py:Big"
members = ["models.py:Other", "models.py:Big"]
epochs = 3
batch = 20
[distil]
model = "models.py:Small"
assistants = ["models.py:Middle"]
generations = 2
epochs = 3
batch = 20
[[distil.terms]]
kind = "decoupled"
beta = 2.0
[[distil.terms]]
kind = "hint"
weight = 0.1
student_layer = "0"
teacher_layer = "0"
[prune]
macs = 0.8
steps = 2
step_epochs = 1
epochs = 1
multiple_of = 1
batch = 20
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (x_train, y_train), (x_test, y_test) = bars(120, 1), bars(60, 2)
    np.savez(tmp_path / "data.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    np.savez(tmp_path / "more.npz", x=bars(60, 3)[0])
    (tmp_path / "models.py").write_text(MODELS)
    # A teacher of several networks has their layers under other names.
    text = CONFIG.replace('teacher_layer = "0"', 'teacher_layer = "members.0.0"')
    text = text.replace('assistants = ["models.py:Middle"]\ngenerations = 2\n', "")
    (tmp_path / "tinsmith.toml").write_text(text)
    return tmp_path


def run(project: Path, out: str, stop: str | None = None) -> dict[str, Path]:
    config = load_config(project)
    stages = [s.from_config(config) for s in (Load, TrainTeacher, DistilStudent, PruneStudent)]

    def listen(event: Event) -> None:
        if stop and event.message.startswith(stop):
            raise KeyboardInterrupt

    return run_flow(stages, project / out, progress=listen)


def test_several_teachers_and_images_without_labels_run_from_a_configuration(project: Path) -> None:
    results = run(project, "out")
    teacher = json.loads((results["teacher"] / "metrics.json").read_text())
    assert teacher["parameters"] == sum(w * 10 + (w * 25 + 1) * 3 for w in (16, 12, 16))
    assert len(teacher["epochs"]) == 9
    with np.load(results["load"] / "data.npz") as data:
        assert data["x_unlabelled"].shape == (60, 1, 12, 12)
    assert (results["prune"] / "model.onnx").exists()


def test_assistants_and_generations_are_trained_in_turn_and_gone_on_with(project: Path) -> None:
    text = CONFIG.replace('members = ["models.py:Other", "models.py:Big"]\n', "")
    (project / "tinsmith.toml").write_text(text)
    whole = run(project, "whole")
    student = json.loads((whole["distil"] / "metrics.json").read_text())
    assert len(student["epochs"]) == 9
    for line in (
        "assistant 1/1  epoch 2/3",
        "generation 1/2  epoch 1/3",
        "generation 2/2  epoch 2/3",
    ):
        with pytest.raises(KeyboardInterrupt):
            run(project, "stopped", line)
    rest = run(project, "stopped")
    for stage, folder in whole.items():
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(path.name for path in rest[stage].iterdir())
        for name in names:
            if name != "entry.json":
                assert (folder / name).read_bytes() == (rest[stage] / name).read_bytes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 9, 9), np.uint8)}, "9 x 9 x 1 but those with labels are 12 x 12 x 1"),
        ({"x": np.zeros((0, 12, 12), np.uint8)}, "there are no samples"),
        ({"images": np.zeros((4, 12, 12), np.uint8)}, "has no array x; it has images"),
    ],
    ids=["size", "none", "name"],
)  # fmt: skip
def test_unlabelled_images_that_do_not_fit_are_refused(
    arrays: dict[str, Any], message: str, project: Path
) -> None:
    np.savez(project / "more.npz", **arrays)
    with pytest.raises(DataError, match=message):
        run(project, "out")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ['kind = "soft"', "beta = 2.0"],
            r'\[\[distil.terms\]\] 1 beta: kind = "soft" has no such key; allowed: kind, weight',
        ),
        (['kind = "hint"'], r"compares two layers; give student_layer and teacher_layer"),
        (['kind = "sotf"'], r"\[\[distil.terms\]\] 1 kind = \"sotf\": allowed: 'labels', 'soft'"),
        (
            ['kind = "soft"', "wieght = 2"],
            r"\[\[distil.terms\]\] 1 has no key 'wieght'; did you mean 'weight'",
        ),
    ],
)  # fmt: skip
def test_a_term_that_is_not_one_is_refused(
    lines: Sequence[str], message: str, project: Path
) -> None:
    text = CONFIG.split("[[distil.terms]]")[0] + "\n".join(["[[distil.terms]]", *lines])
    (project / "tinsmith.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(project)
