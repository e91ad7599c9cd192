import numpy as np


class FeatureExtractor:
    def fit(self, X, y):
        pass

    def transform(self, X):
        return np.array([self._features(sound) for sound in X])

    def _features(self, sound):
        spectrum = np.abs(np.fft.rfft(sound))
        frequencies = np.fft.rfftfreq(len(sound))
        centre = np.average(frequencies, weights=spectrum)
        crossings = np.mean(np.diff(np.sign(sound)) != 0)
        first, second = np.array_split(sound, 2)
        return [frequencies[spectrum.argmax()], centre, crossings, first.std() / second.std()]
