"""One uploaded CSV file as a data frame; what is wrong with it is said with names and lines."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pandas as pd
from pandas.errors import EmptyDataError, ParserError, ParserWarning

from consumer.preparation.split_task import refuse

_RAGGED = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
_NAMES_SHOWN = 20


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file, which may be compressed (by its suffix), in UTF-8.

    Refusal when it is empty, binary or ragged, or has a column name twice.
    """
    name = path.name
    try:
        _check_text(path)
        _check_header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            frame = pd.read_csv(path, index_col=False, low_memory=False)
    except EmptyDataError as error:
        raise refuse(f"{name} is empty") from error
    except UnicodeDecodeError as error:
        raise refuse(
            f"{name} is not a text file in UTF-8: byte {error.object[error.start]:#04x} at "
            f"position {error.start}"
        ) from error
    except ParserError as error:
        raise refuse(_parser_sentence(name, str(error))) from error
    except ParserWarning as error:
        raise refuse(f"{name}: its rows have more fields than its header has names") from error
    except (
        OSError,
        EOFError,
        IndexError,
        ValueError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        raise refuse(f"{name} cannot be read: {error}") from error
    if frame.empty:
        raise refuse(f"{name} has a header, but no rows")
    if frame.iloc[:, -1].isna().any():
        _check_short_rows(path, frame.shape[1])
    return frame


def listed(names: list[str]) -> str:
    """Names for a sentence, not more than a screenful."""
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed by the rules of `pandas.read_csv`."""
    with contextlib.ExitStack() as held:
        match path.suffix.lower():
            case ".gz":
                file: object = held.enter_context(gzip.open(path))
            case ".bz2":
                file = held.enter_context(bz2.open(path))
            case ".xz":
                file = held.enter_context(lzma.open(path))
            case ".zip":
                archive = held.enter_context(zipfile.ZipFile(path))
                file = held.enter_context(archive.open(archive.namelist()[0]))
            case _:
                file = held.enter_context(path.open("rb"))
        yield cast(BinaryIO, file)


def _check_text(path: Path) -> None:
    """A binary file can look like a CSV file with strange names."""
    with _opened(path) as file:
        start = file.read(4096)
    if b"\0" in start:
        raise refuse(f"{path.name} is not a text file: it has a zero byte at its beginning")


def _check_header(path: Path) -> None:
    """pandas would rename the second of two equal names."""
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, index_col=False)
    counts = Counter(str(column) for column in header.iloc[0].dropna())
    twice = [column for column, count in counts.items() if count > 1]
    if twice:
        raise refuse(f"{path.name} has more than one column called {listed(twice)}")


def _check_short_rows(path: Path, width: int) -> None:
    """pandas fills a row that is too short with missing values."""
    with _opened(path) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        rows = csv.reader(text)
        for row in rows:
            if row and len(row) < width:
                raise refuse(
                    f"{path.name}, line {rows.line_num}: {len(row)} fields, expected {width}"
                )


def _parser_sentence(name: str, message: str) -> str:
    match = _RAGGED.search(message)
    if match:
        expected, line, saw = match.groups()
        return f"{name}, line {line}: {saw} fields, expected {expected}"
    return f"{name} is not a CSV file: {message.strip()}"
