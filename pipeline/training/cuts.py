"""What pruning took out of a network, so that the same can be taken out of another one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """Channels or units of a layer, by the layer's path and their numbers at the time; without
    numbers the whole layer."""

    layer: str
    places: tuple[int, ...] = ()
