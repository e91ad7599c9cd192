"""What the zygote does once, so that folds need not: imports, and fits of synthetic data.

scikit-learn imports much of itself only when something is fitted. One thread: a process that has
used OpenMP with several cannot be forked, its children hang.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController


def warm_controller() -> ThreadpoolController:
    """Fit common estimators; returns the controller of all thread pools loaded by then.

    To build one takes 11 ms.
    """
    random = np.random.RandomState(0)
    x = random.normal(size=(60, 3))
    y = np.arange(60) % 3
    classifiers = (
        DummyClassifier(),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5)),
        RandomForestClassifier(n_estimators=2, n_jobs=1),
        HistGradientBoostingClassifier(max_iter=2),
        CalibratedClassifierCV(DummyClassifier(), cv=2),
    )
    controller = ThreadpoolController()
    with warnings.catch_warnings(), controller.limit(limits=1):
        warnings.simplefilter("ignore")
        for classifier in classifiers:
            classifier.fit(x, y).predict_proba(x)
        for regressor in (Ridge(), RandomForestRegressor(n_estimators=2, n_jobs=1)):
            regressor.fit(x, x[:, 0]).predict(x)
        next(StratifiedShuffleSplit(1, test_size=0.1, random_state=57).split(x, y))
        frame = pd.DataFrame({"number": x[:, 0], "text": y.astype(str)})
        pd.get_dummies(frame.iloc[y]).to_numpy()
    return controller
