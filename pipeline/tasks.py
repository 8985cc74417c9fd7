"""What a network is asked of a sample: one task, or several, for each of which it has an output.

Labels are [N] of one task and [N, tasks] of several; a network gives one array of logits, or a
tuple of them in the order of the tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.config.training_tables import TaskTable
from tinsmith.pipeline.errors import DataError

# By how much the loss of each task counts, by its name.
TaskWeights = Mapping[str, float]
ONE_TASK: TaskWeights = {"": 1.0}


@dataclass(frozen=True)
class Task:
    """A question with so many answers; the only one of a data set may have no name."""

    name: str
    classes: int
    weight: float = 1.0


def weights_of(tasks: Sequence[Task]) -> TaskWeights:
    return {task.name: task.weight for task in tasks}


def label_columns(y: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """The labels [N] of each task."""
    return tuple(y.T) if y.ndim > 1 else (y,)


def tasks_text(tasks: Sequence[Task]) -> str:
    """How many classes there are."""
    if len(tasks) == 1:
        return f"{tasks[0].classes} classes"
    return ", ".join(f"{task.name} of {task.classes} classes" for task in tasks)


def accuracy_metrics(tasks: Sequence[Task], accuracies: Sequence[float]) -> dict[str, Any]:
    """`accuracy`, in percent: of several tasks the mean, and `tasks` has that of each."""
    mean = {"accuracy": sum(accuracies) / len(accuracies)}
    if len(tasks) == 1:
        return mean
    return mean | {"tasks": {t.name: a for t, a in zip(tasks, accuracies, strict=True)}}


def task_arrays(tasks: Sequence[Task]) -> dict[str, Any]:
    """Tasks as arrays of a NumPy file, which `read_tasks` reads."""
    if len(tasks) == 1 and not tasks[0].name:
        return {"classes": np.int64(tasks[0].classes)}
    return {
        "classes": np.array([task.classes for task in tasks], np.int64),
        "task_names": np.array([task.name for task in tasks]),
        "task_weights": np.array([task.weight for task in tasks]),
    }


def read_tasks(file: Mapping[str, NDArray[Any]]) -> tuple[Task, ...]:
    """The tasks that `task_arrays` wrote."""
    if "task_names" not in file:
        return (Task("", int(file["classes"])),)
    columns = (file[name].tolist() for name in ("task_names", "classes", "task_weights"))
    return tuple(Task(*task) for task in zip(*columns, strict=True))


def chosen_labels(
    y: NDArray[np.int64], names: Sequence[str], tables: Sequence[TaskTable], where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels of the tasks that [[data.tasks]] asks for, and their names; all without any.

    y: [N] or [N, tasks], called by `names`, which is ("",) where the data have but one. Raises
    DataError for labels that aren't there, and groups that don't hold each class once.
    """
    if not tables:
        return y, tuple(names)
    columns = dict(zip(names, label_columns(y), strict=True))
    chosen = [_made(columns, table, f"[[data.tasks]] {table.name}", where) for table in tables]
    labels = np.stack(chosen, axis=1) if len(chosen) > 1 else chosen[0]
    return labels, tuple(table.name for table in tables)


def _made(
    columns: Mapping[str, NDArray[np.int64]], table: TaskTable, key: str, where: str
) -> NDArray[np.int64]:
    """The labels of one task."""
    source = table.labels or table.name
    if len(columns) == 1 and not table.labels:
        [source] = columns
    if source not in columns:
        known = ", ".join(name for name in columns if name)
        needed = f"allowed: {known}" if known else "they have one without a name; leave it out"
        raise DataError(f"{key} labels: {where}: there are no labels '{source}'; {needed}")
    own = columns[source]
    if not table.groups:
        return own
    group_of = {label: place for place, group in enumerate(table.groups) for label in group}
    without = sorted(set(own.tolist()) - set(group_of))
    if without:
        raise DataError(
            f"{key} groups: {where}: label {without[0]} is in none of them; each class of the data "
            "has to be in one"
        )
    made: NDArray[np.int64] = np.array([group_of[label] for label in own.tolist()], np.int64)
    return made
