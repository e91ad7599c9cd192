"""Writes recordings.zip: 150 short sounds of three kinds, and kinds.csv, which names the kind."""

import csv
import io
import wave
import zipfile

import numpy as np

RATE = 8000  # samples a second

random = np.random.default_rng(0)


def sound(kind: str) -> np.ndarray:
    """A recording of 0.1 to 0.4 s, as samples between -1 and 1."""
    seconds = np.arange(int(RATE * random.uniform(0.1, 0.4))) / RATE
    if kind == "hum":
        clean = np.sin(2 * np.pi * random.uniform(60, 300) * seconds)
    elif kind == "whistle":
        clean = np.sin(2 * np.pi * random.uniform(200, 2000) * seconds)
    else:
        clean = random.normal(size=len(seconds)) * np.exp(-30 * seconds)
    return np.clip(0.4 * clean + random.normal(scale=0.2, size=len(seconds)), -1, 1)


def wav(samples: np.ndarray) -> bytes:
    """A WAV file: one channel, 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


kinds = io.StringIO()
table = csv.writer(kinds)
with zipfile.ZipFile("recordings.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for number in range(150):
        kind = ("hum", "whistle", "click")[number % 3]
        table.writerow([f"{number:03}.wav", kind])
        archive.writestr(f"{number:03}.wav", wav(sound(kind)))
    archive.writestr("kinds.csv", kinds.getvalue())
