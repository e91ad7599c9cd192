from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def __init__(self):
        self.forest = RandomForestClassifier(n_estimators=20, random_state=0)

    def fit(self, X, y):
        self.forest.fit(X, y)

    def predict_proba(self, X):
        return self.forest.predict_proba(X)
