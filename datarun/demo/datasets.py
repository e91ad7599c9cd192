"""The demo's data sets: iris and digits, written as CSV files from scikit-learn's own data."""

from __future__ import annotations

from pathlib import Path


def write_iris(folder: Path) -> Path:
    """150 flowers, four measurements in centimetres, the species."""
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True)
    frame = iris.data.set_axis(
        [name.removesuffix(" (cm)").replace(" ", "_") for name in iris.data.columns], axis=1
    )
    frame["species"] = iris.target_names[iris.target]
    path = folder / "iris.csv"
    frame.to_csv(path, index=False)
    return path


def write_digits(folder: Path) -> Path:
    """1797 handwritten digits of 8 x 8 pixels with 16 shades of grey."""
    from sklearn.datasets import load_digits

    digits = load_digits(as_frame=True)
    path = folder / "digits.csv"
    digits.frame.rename(columns={"target": "digit"}).to_csv(path, index=False)
    return path
