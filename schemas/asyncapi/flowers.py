"""What the examples are about: a small table of flowers, a submission, and a split of its own.

Packed texts are written out: what zlib writes differs between its versions, and the document must
not.
"""

from __future__ import annotations

FLOWERS = "length,width,species\n" + "".join(
    f"{length / 10},{width / 10},{species}\n"
    for first, species in ((12, "setosa"), (40, "virginica"))
    for length, width in zip(
        range(first, first + 12), range(first // 6, first // 6 + 12), strict=True
    )
)
"""24 rows, of two species that are easily told apart: 18 to train on, 6 to test on."""

CLASSIFIER = """\
import numpy as np


class Classifier:
    def fit(self, X, y):
        self.means = np.array([X[y == name].mean(axis=0) for name in np.unique(y)])

    def predict_proba(self, X):
        distances = np.linalg.norm(X[:, None] - self.means, axis=2)
        return np.exp(-distances) / np.exp(-distances).sum(axis=1, keepdims=True)
"""

CLASSIFIER_PACKED = (
    "eNptjztvwzAMhHf9Co4SoLiPMYCn7p06GDCMgLXpgqj1KCUB0b+P7bRGht7A4Y64j2QXg2TwxcUKmMBHpdS4"
    "YErwtk2emeSsYNVEM8ycdaJlttBZqOYebNrMxhH6BO1a0qAIVt13fYV2NdDRsMcar5zaZwNzkN0G9tt+8fxT"
    "SFczGHXQotDEY75ECZ/4x32ATpwy+pF+mQt7XL4aH8Tprj9beA+eBjg9HGdh57+ao0MoF9lPoGvUp6PSwNM/"
    "ZpOKu7/wYuGbKE7sUvshhYy6ATyBaJg="
)
TRAIN_IS_PACKED = "eNotxbcBACAMAKBYY/n/XwdhIeIrrm7uHp5OL28fXz8JUABD"
TEST_IS_PACKED = "eNrjYYAAXijNB6X5obQAlBaE0gAJKABY"

ORGANISER = """\
import importlib
from pathlib import Path


def prepare_data(raw_data_path):
    pass


def get_train_data(raw_data_path):
    return read(raw_data_path, slice(0, None, 2))


def get_test_data(raw_data_path):
    return read(raw_data_path, slice(1, None, 2))


def read(raw_data_path, rows):
    lines = (Path(raw_data_path) / "words.txt").read_text().split()[rows]
    return lines, [line.isupper() for line in lines]


def train_submission(module_path, X, y, train_indices):
    classifier = importlib.import_module(".classifier", module_path).Classifier()
    classifier.fit([X[row] for row in train_indices], y[train_indices])
    return classifier


def test_submission(trained_model, X, test_indices):
    return trained_model.predict_proba([X[row] for row in test_indices])
"""

UPLOAD = "flowers-upload-1"
"""The blob of the large file."""
