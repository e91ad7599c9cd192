"""The custom workflow: the organiser's own file trains and tests submissions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.execution.fold_task import FoldTask
from consumer.workflows.organiser import load_organiser, required_function, row_count
from consumer.workflows.predictions import aligned, plain
from consumer.workflows.submission import MODULE_PATH


class CustomWorkflow:
    """Calls the organiser's `train_submission` and `test_submission`."""

    def __init__(self, task: FoldTask, custom_file: str, organiser_folder: str) -> None:
        self._task = task
        self._file = custom_file
        self._module = load_organiser(organiser_folder, custom_file)
        self._model: Any = None

    def shaped(self, x: Any) -> Any:
        """X as it is: whatever `get_train_data` returned."""
        return x

    def train(self, x: Any) -> None:
        """`train_submission(module_path, X, y, train_indices)`.

        y has a label for every training row, as the function expects; outside `train_is` it is
        always the first known label, since the others never enter this process.
        """
        task = self._task
        y = np.full(task.n_train, task.y[0], dtype=task.y.dtype)
        if task.y.ndim > 1:
            y = np.tile(task.y[0], (task.n_train, *([1] * (task.y.ndim - 1))))
        y[task.train_is] = task.y
        train_submission = required_function(self._module, "train_submission", self._file)
        self._model = train_submission(MODULE_PATH, x, y, task.train_is.copy())

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """`test_submission(trained_model, X, test_indices)` for all rows of X.

        Numbers of shape (n_rows,) or (n_rows, n_columns); with classes, a column for each.
        """
        test_submission = required_function(self._module, "test_submission", self._file)
        predictions = test_submission(self._model, x, np.arange(row_count(x)))
        array = plain(predictions)
        if self._task.classes is None:
            return array
        return aligned(array, self._task.classes, None, self._task.y)
