"""Windows of a smartwatch's motion: seven shoulder exercises, ten people (the package seglearn).

Burns et al. 2018, "Shoulder physiotherapy exercise recognition: machine learning the inertial
signals from a smartwatch". 140 recordings at 50 Hz: acceleration in g and rotation in rad/s, three
axes each.
"""

import importlib.util
from pathlib import Path

import numpy as np

WINDOW, HOP = 128, 64  # 2.56 s, half of it new
FOLDS = 4
# What a sensor of such a watch is set to: beyond it values are clipped, so that no jolt decides
# how finely int8 tells the others apart.
FULL_SCALE = np.array([2, 2, 2, 8, 8, 8], np.float32)


def load(fold=0, channels_first=True):
    """Windows float32 [N, 6, 128] ([N, 128, 6] without channels_first) in -1..1, and exercises.

    Nobody is both in training and in test: those whose number leaves `fold` modulo 4 are the test.
    """
    spec = importlib.util.find_spec("seglearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the data come with the package seglearn: pip install seglearn")
    # The file is read without importing the package. It is a pickle: trusted as its code would be.
    path = Path(spec.origin).parent / "data" / "watch_dataset.npy"
    recordings = np.load(path, allow_pickle=True).item()
    parts = {True: ([], []), False: ([], [])}
    columns = (recordings[key] for key in ("X", "y", "subject"))
    for signal, exercise, person in zip(*columns, strict=True):
        scaled = np.clip(signal.astype(np.float32) / FULL_SCALE, -1, 1)
        windows, labels = parts[bool(person % FOLDS == fold)]
        for start in range(0, len(scaled) - WINDOW + 1, HOP):
            window = scaled[start : start + WINDOW]
            windows.append(window.T if channels_first else window)
            labels.append(exercise)
    train, test = ((np.stack(x), np.array(y, np.int64)) for x, y in (parts[False], parts[True]))
    return train, test
