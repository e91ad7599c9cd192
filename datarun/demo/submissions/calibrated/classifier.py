"""Naive Bayes: quick, and far too sure of itself."""

from sklearn.naive_bayes import GaussianNB


class Classifier:
    def __init__(self):
        self.model = GaussianNB(var_smoothing=1e-3)

    def fit(self, X, y):
        self.model.fit(X, y)

    def predict_proba(self, X):
        return self.model.predict_proba(X)
