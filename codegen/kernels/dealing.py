"""Dealing taps into groups whose products add up exactly in half a word.

x0 + (x1 << 16) times a weight is two products at once, and sums of them stay exact in both halves
as long as the magnitudes of the weights of a group add up to GROUP_SUM at most. All groups of a
layer have one length, so that code is the same for all; long ones need fewer sums to be split.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

GROUP_SUM = 255  # 128 * 255 < 2^15
LONGEST_GROUP = 16
MOST_LOOKS = 200_000_000  # loads looked at for one length: a bound on the time

Int64 = NDArray[np.int64]


def deal(weights: NDArray[np.int8], cost: Callable[[int], float]) -> tuple[int, Int64]:
    """(group length, place of each tap) so that no channel's group sums exceed GROUP_SUM.

    weights: [channels, taps]. cost: of a group length; the cheapest that can be dealt is taken.
    """
    group, (place,) = deal_parts([weights], cost)
    return group, place


def deal_parts(
    parts: list[NDArray[np.int8]], cost: Callable[[int], float]
) -> tuple[int, list[Int64]]:
    """The same for parts of the channels, each of which has places of its own."""
    taps = parts[0].shape[1]
    for group in sorted(range(1, min(taps, LONGEST_GROUP) + 1), key=cost):
        places: list[Int64] = []
        for weights in parts:
            place = _try_deal(weights, group)
            if place is None:
                break
            places.append(place)
        else:
            return group, places
    raise AssertionError("groups of one tap can always be dealt")


def _try_deal(weights: NDArray[np.int8], group: int) -> Int64 | None:
    """The places of the taps for groups of one length, where they are found."""
    a = np.abs(weights.astype(np.int64))
    taps = a.shape[1]
    # Weights that are not -128 go in twos wherever they lie.
    if group == 1 or (group == 2 and int(a.max(initial=0)) <= 127):
        return np.arange(taps, dtype=np.int64)
    groups = -(-taps // group)
    if int(a.sum(axis=1).max(initial=0)) > GROUP_SUM * groups:
        return None
    return _swapped(a, group, _spread(a, group, groups))


def _spread(a: Int64, group: int, groups: int) -> Int64:
    """Places by which heavy taps go first, each to the group that stays lightest by it."""
    place = np.zeros(a.shape[1], np.int64)
    load, count = np.zeros((len(a), groups)), np.zeros(groups, np.int64)
    for tap in np.argsort(-(a.max(axis=0) * 1000 + a.mean(axis=0)), kind="stable"):
        grown = load + a[:, tap : tap + 1]
        weight = ((grown / GROUP_SUM) ** 8).sum(axis=0)
        weight[count >= group] = np.inf
        best = int(np.argmin(weight))
        place[tap] = best * group + count[best]
        load[:, best] = grown[:, best]
        count[best] += 1
    return place


def _swapped(a: Int64, group: int, place: Int64) -> Int64 | None:
    """Taps of the most overloaded group change places with others for as long as that lowers what
    is above GROUP_SUM; None where something stays above it."""
    channels, taps = a.shape
    slots = -(-taps // group) * group
    laid, tap_at = np.zeros((channels, slots), np.int64), np.full(slots, -1)
    laid[:, place], tap_at[place] = a, np.arange(taps)
    load = laid.reshape(channels, -1, group).sum(axis=2)
    for _ in range(MOST_LOOKS // (channels * slots * group) + 1):
        over = np.maximum(load - GROUP_SUM, 0).sum(axis=0)
        if not over.any():
            found = np.zeros(taps, np.int64)
            found[tap_at[tap_at >= 0]] = np.flatnonzero(tap_at >= 0)
            return found
        worst = int(np.argmax(over))
        swap = _best_swap(laid, load, over, worst, group)
        if swap is None:
            return None
        i, j = swap
        change = laid[:, j] - laid[:, i]
        load[:, worst] += change
        load[:, j // group] -= change
        laid[:, [i, j]], tap_at[[i, j]] = laid[:, [j, i]], tap_at[[j, i]]
    return None


def _best_swap(
    laid: Int64, load: Int64, over: Int64, worst: int, group: int
) -> tuple[int, int] | None:
    """The slots, one of group `worst`, whose exchange lowers the overload the most."""
    others, before = np.repeat(load, group, axis=1), np.repeat(over, group) + over[worst]
    own = load[:, worst : worst + 1]
    best, found = 0, None
    for i in range(worst * group, (worst + 1) * group):
        change = laid - laid[:, i : i + 1]
        after = np.maximum(own + change - GROUP_SUM, 0) + np.maximum(others - change - GROUP_SUM, 0)
        gain = after.sum(axis=0) - before
        gain[worst * group : (worst + 1) * group] = 0
        j = int(np.argmin(gain))
        if gain[j] < best:
            best, found = int(gain[j]), (i, j)
    return found
