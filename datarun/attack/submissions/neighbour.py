"""Sits in the other slot, with an idea that is worth stealing, and all labels."""

import time

IDEA = ["the neighbour's idea"] * 1000


class Regressor:
    def fit(self, X, y):
        self.labels = y.copy()
        time.sleep(3600)

    def predict(self, X):
        return X[:, 0]
