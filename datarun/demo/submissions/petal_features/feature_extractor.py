"""The shape of a petal, from a data frame with a column for each measurement."""

import numpy as np


class FeatureExtractor:
    def fit(self, X_df, y):
        pass

    def transform(self, X_df):
        length, width = X_df["petal_length"], X_df["petal_width"]
        return np.column_stack([length * width, length / width, X_df["sepal_length"]])
