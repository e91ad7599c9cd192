from sklearn.neighbors import KNeighborsClassifier


class Classifier(KNeighborsClassifier):
    pass
