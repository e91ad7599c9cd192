"""Searches for labels that are not its own: in memory, in objects, in frames, in files.

The labels of the data set can be told from anything else; those that `fit` was given are allowed.
"""

import gc
import os
import re
import sys
import time

import numpy as np
from attempts import attempt

# Neither is a label, so that these numbers are not found themselves.
LOWEST, HIGHEST = 271_827_999.5, 271_828_149.5
TEXT = re.compile(rb"2718280\d\d|2718281[0-4]\d")
CHUNK = 1 << 22
SECONDS = 4.0


def attack(X, y):
    own = {int(label) for label in y}
    print("its own:", len(own))
    attempt("labels in its memory", lambda: sorted(_in_memory() - own))
    attempt("labels in objects", lambda: sorted(_in_objects(gc.get_objects()) - own))
    attempt("labels in frames", lambda: sorted(_in_frames() - own))
    attempt("labels in descriptors", lambda: sorted(_in_descriptors() - own))
    attempt("labels in files", lambda: sorted(_in_files(own)))


def found_in(content):
    """Labels in bytes: as numbers of eight bytes, and as text."""
    numbers = np.frombuffer(content[: len(content) // 8 * 8], "<f8")
    with np.errstate(all="ignore"):
        near = numbers[(numbers > LOWEST) & (numbers < HIGHEST)]
    found = {int(number) for number in near if number == int(number)}
    return found | {int(text) for text in TEXT.findall(content)}


def _in_memory():
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps.readlines():
            span, rights, rest = line.split(maxsplit=2)
            start, end = (int(address, 16) for address in span.split("-"))
            if "r" not in rights or "[v" in rest:
                continue
            for place in range(start, end, CHUNK):
                try:
                    memory.seek(place)
                    found |= found_in(memory.read(min(CHUNK, end - place)))
                except OSError:  # no page is there
                    continue
    return found


def _in_objects(objects):
    found = set()
    for item in objects:
        parts = [item]
        if type(item) is dict:
            parts = list(item.values())
        elif type(item) in (list, tuple, set):
            parts = list(item)
        for part in parts:
            if type(part) is np.ndarray and part.dtype.kind in "fiu":
                found |= found_in(part.astype("<f8").tobytes())
            elif type(part) is float and LOWEST < part < HIGHEST:
                found.add(int(part))
            elif type(part) is bytes:
                found |= found_in(part)
    return found


def _in_frames():
    """In what its callers have in their hands, ours too, and in the parts of that."""
    found = set()
    frame = sys._getframe()
    while frame is not None:
        values = list(frame.f_locals.values())
        for _ in range(3):
            found |= _in_objects(values)
            values = [part for value in values if _is_plain(value) for part in vars(value).values()]
        frame = frame.f_back
    return found


def _is_plain(value):
    return isinstance(getattr(value, "__dict__", None), dict)


def _in_descriptors():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.path.isfile(f"/proc/self/fd/{name}"):
                found |= found_in(open(f"/proc/self/fd/{name}", "rb").read())
        except OSError:
            continue
    return found


def _in_files(own):
    """In the folders of whatever it has mapped, of other processes, and where data usually is."""
    until = time.monotonic() + SECONDS
    for folder in dict.fromkeys(_folders()):
        for place, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if f"{place}/{name}" != os.environ["HOME"]]
            for name in names:
                if time.monotonic() > until:
                    raise TimeoutError("there are too many files")
                try:
                    path = os.path.join(place, name)
                    if os.path.isfile(path) and os.path.getsize(path) < 1 << 26:
                        if found := found_in(open(path, "rb").read()) - own:
                            print("in", path)
                            return found
                except OSError:
                    continue
    return set()


def _folders():
    for line in open("/proc/self/maps").read().splitlines():
        path = line.split(maxsplit=5)[5] if line.count("/") else ""
        if path.startswith("/") and not path.startswith(("/usr", "/lib", "/python", "/dev/zero")):
            if not path.endswith(".so") and ".so." not in path:
                yield os.path.dirname(path)
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            for name in os.listdir(f"/proc/{process}/fd"):
                path = os.readlink(f"/proc/{process}/fd/{name}")
                if path.endswith((".npy", ".sqlite", ".csv")):
                    yield os.path.dirname(path)
        except OSError:
            continue
    yield from ("/box", "/tmp", "/var/tmp", "/dev/shm", "/home", "/root", "/run", "/srv", "/mnt")
