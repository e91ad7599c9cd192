"""Sounds of different lengths: X is a list of arrays, and y says of which kind each sound is."""

import csv
import importlib
import wave
import zipfile
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split


def prepare_data(raw_data_path):
    raw = Path(raw_data_path)
    with zipfile.ZipFile(raw / "recordings.zip") as archive:
        archive.extractall(raw)
    with open(raw / "kinds.csv", newline="") as file:
        rows = list(csv.reader(file))
    train, test = train_test_split(
        rows, test_size=0.2, random_state=0, stratify=[kind for _, kind in rows]
    )
    for part, chosen in (("train.csv", train), ("test.csv", test)):
        with open(raw / part, "w", newline="") as file:
            csv.writer(file).writerows(chosen)


def get_train_data(raw_data_path):
    return _read(Path(raw_data_path), "train.csv")


def get_test_data(raw_data_path):
    return _read(Path(raw_data_path), "test.csv")


def train_submission(module_path, X, y, train_indices):
    extractor = importlib.import_module(".feature_extractor", module_path).FeatureExtractor()
    classifier = importlib.import_module(".classifier", module_path).Classifier()
    sounds, kinds = [X[row] for row in train_indices], y[train_indices]
    extractor.fit(sounds, kinds)
    classifier.fit(extractor.transform(sounds), kinds)
    return extractor, classifier


def test_submission(trained_model, X, test_indices):
    extractor, classifier = trained_model
    return classifier.predict_proba(extractor.transform([X[row] for row in test_indices]))


def _read(raw, part):
    with open(raw / part, newline="") as file:
        rows = list(csv.reader(file))
    X = [_samples(raw / name) for name, _ in rows]
    y = np.array([kind for _, kind in rows])
    return X, y


def _samples(path):
    with wave.open(str(path)) as recording:
        raw = recording.readframes(recording.getnframes())
    return np.frombuffer(raw, dtype="<i2") / 32768
