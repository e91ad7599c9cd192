from sklearn.ensemble import RandomForestClassifier


class Classifier(RandomForestClassifier):
    def __init__(self):
        super().__init__(n_estimators=50, random_state=0)
