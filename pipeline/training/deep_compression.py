"""Deep Compression (Han, Mao & Dally, ICLR 2016): prune weights, share values, code what is left.

Each part is of use by itself: `sparsity`, `codebooks`, and `coding` for the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tinsmith.pipeline.coding.container import Coded, encode_weights
from tinsmith.pipeline.flow import Progress
from tinsmith.pipeline.training.codebooks import Start, share_weights, unshare
from tinsmith.pipeline.training.loop import Epoch, Recipe, Samples, fit, seed_of
from tinsmith.pipeline.training.losses import Loss
from tinsmith.pipeline.training.networks import matrices
from tinsmith.pipeline.training.series import read_finished, write_finished
from tinsmith.pipeline.training.sparsity import GradualPruning, SparsityPlan


@dataclass(frozen=True)
class Plan:
    """How to compress: which weights stay, in how many bits their codes stand, and how long the
    codebooks are trained at which rate."""

    sparsity: SparsityPlan
    bits: Mapping[str, int]
    start: Start
    code_epochs: int
    code_learning_rate: float


def compress(
    network: nn.Module,
    samples: Samples,
    plan: Plan,
    recipe: Recipe,
    loss: Loss,
    folder: Path,
    progress: Progress,
) -> tuple[Epoch, ...]:
    """Prune and share the weights of a trained `network` in place; result: the record of epochs.

    recipe: of the training while weights go. What is finished is kept in `folder`, and gone on with
    when it is there.
    """

    def tell(part: str, share: float, before: float) -> Progress:
        def line(message: str, fraction: float | None = None) -> None:
            progress(f"{part}  {message}", before + share * (fraction or 0))

        return line

    epochs = recipe.epochs + plan.code_epochs
    part = recipe.epochs / epochs
    pruned = folder / "pruned.pt"
    history = read_finished(network, pruned)
    if history is None:
        history = fit(
            network,
            samples,
            recipe,
            loss,
            folder / "pruning.pt",
            tell("pruning", part, 0),
            GradualPruning(network, plan.sparsity),
        )
        write_finished(network, history, pruned)
    codes = replace(
        recipe,
        epochs=plan.code_epochs,
        learning_rate=plan.code_learning_rate,
        weight_decay=0.0,
        seed=seed_of(recipe.seed, "codebooks"),
    )
    share_weights(network, plan.bits, plan.start, codes.seed)
    history += train_shared(
        network, samples, codes, loss, folder / "codes.pt", tell("codes", 1 - part, part)
    )
    for name in ("pruning.pt", "pruned.pt", "codes.pt"):
        (folder / name).unlink(missing_ok=True)
    return history


def train_shared(
    network: nn.Module,
    samples: Samples,
    recipe: Recipe,
    loss: Loss,
    checkpoint: Path,
    progress: Progress,
) -> tuple[Epoch, ...]:
    """Train the values that `share_weights` gave a network, and make them plain weights; result:
    the record of epochs. All that is no layer's weight ends in half precision, as codebooks do.
    """
    history = fit(network, samples, recipe, loss, checkpoint, progress)
    unshare(network)
    weights = {id(weight) for weight in matrices(network).values()}
    with torch.no_grad():
        for tensor in network.state_dict(keep_vars=True).values():
            if id(tensor) in weights or not tensor.is_floating_point():
                continue
            halved = tensor.half().float()
            if bool(halved.isfinite().all()):
                tensor.copy_(halved)
    return history


def coded_file(network: nn.Module) -> tuple[bytes, tuple[Coded, ...]]:
    """The network's whole state as a file of coded weights, and what each tensor takes in it."""
    state = network.state_dict()
    arrays = {name: tensor.detach().float().numpy() for name, tensor in state.items()}
    return encode_weights(arrays)


def int8_file_bytes(network: nn.Module) -> int:
    """What the network takes as a coded file of int8 weights, with a scale for each output.

    Everything counts; biases and what else is no layer's weight are in half precision.
    """
    weights = {id(weight) for weight in matrices(network).values()}
    arrays = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        values = tensor.detach().float()
        if id(tensor) in weights:
            scale = values.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
            values = (values / scale.reshape(-1, *[1] * (values.ndim - 1))).round()
            arrays[f"{name}.scale"] = scale.numpy()
        else:
            values = values.half().float()
        arrays[name] = values.numpy()
    return len(encode_weights(arrays)[0])
