"""The files a caller names: paths, a folder, or a mapping of names to contents."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import FileError, MissingFileError
from schemas.files import MAX_SUBMISSION_BYTES, File, checked_name
from schemas.frozen import MAX_NAME

PathLike = str | os.PathLike[str]
FilesArgument = PathLike | Iterable[PathLike] | Mapping[str, str | bytes | File]
"""A file, a folder, several of them, or name -> content (text, bytes, File)."""

_IGNORED_ENDINGS = ("~", ".pyc", ".pyo", ".swp", ".swo", ".bak", ".orig", ".tmp")


@dataclass(frozen=True)
class NamedFile:
    """A file under the name it will have, not yet read when it is on disk."""

    name: str
    source: Path | bytes
    size: int

    def open(self) -> BinaryIO:
        """From its first byte. Raises FileError when it cannot be read."""
        if isinstance(self.source, bytes):
            return io.BytesIO(self.source)
        try:
            return self.source.open("rb")
        except OSError as error:
            raise _unreadable(self.source, error) from error

    def read(self) -> bytes:
        """The whole content. Raises FileError when it cannot be read."""
        with self.open() as stream:
            return stream.read()


def named_files(files: FilesArgument) -> tuple[NamedFile, ...]:
    """What `files` stands for, with checked names, none twice.

    Of a folder, its files: hidden ones, `__pycache__` and editors' backups are left out. A
    sub-folder is an error, since files travel without folders and would be missed.

    Raises MissingFileError, and FileError for a refused name, a sub-folder, or no file at all.
    """
    if isinstance(files, Mapping):
        found = [_from_content(name, content) for name, content in files.items()]
    else:
        paths = [files] if isinstance(files, str | os.PathLike) else list(files)
        found = [file for path in paths for file in _from_path(Path(path))]
    names: set[str] = set()
    for file in found:
        checked_name(file.name)
        if file.name in names:
            raise FileError(f"two files are named {file.name!r}: names must differ without folders")
        names.add(file.name)
    if not found:
        raise FileError("files: no file is named")
    return tuple(found)


def submission_files(files: FilesArgument) -> dict[str, File]:
    """The files of a submission, read and encoded; at most 8 MiB together.

    Raises what `named_files` raises, and FileError when they are too large.
    """
    named = named_files(files)
    total = sum(file.size for file in named)
    if total > MAX_SUBMISSION_BYTES:
        largest = max(named, key=lambda file: file.size)
        raise FileError(
            f"the submission's files have {total} bytes together; at most {MAX_SUBMISSION_BYTES} "
            f"are taken. The largest is {largest.name!r} with {largest.size} bytes"
        )
    return {file.name: File.of(file.read()) for file in named}


def folder_name(files: FilesArgument) -> str | None:
    """What the submission in one folder, or in one file, is called: as that is."""
    if not isinstance(files, str | os.PathLike):
        return None
    return Path(files).resolve().name[:MAX_NAME] or None


def _from_content(name: str, content: str | bytes | File) -> NamedFile:
    match content:
        case File():
            data = content.to_bytes()
        case str():
            data = File.of(content).to_bytes()
        case bytes() | bytearray() | memoryview():
            data = bytes(content)
        case _:
            raise FileError(
                f"the content of {name!r} is {type(content).__name__}: give text or bytes"
            )
    return NamedFile(name, data, len(data))


def _from_path(path: Path) -> list[NamedFile]:
    try:
        if path.is_dir():
            entries = sorted(entry for entry in path.iterdir() if not _is_ignored(entry.name))
            for entry in entries:
                if entry.is_dir():
                    raise FileError(
                        f"{entry} is a sub-folder: files travel without folders. Move its files "
                        f"to {path}, or name the files one by one"
                    )
            if not entries:
                raise FileError(f"no file is in the folder {path}, beside hidden ones and backups")
            return [_from_file(entry) for entry in entries]
        return [_from_file(path)]
    except PermissionError as error:
        raise _unreadable(path, error) from error


def _from_file(path: Path) -> NamedFile:
    if not path.exists():
        raise MissingFileError(f"no such file or folder: {path} (looked for from {Path.cwd()})")
    if not path.is_file():
        raise FileError(f"{path} is neither a file nor a folder")
    return NamedFile(path.name, path, path.stat().st_size)


def _is_ignored(name: str) -> bool:
    return name.startswith((".", "#")) or name == "__pycache__" or name.endswith(_IGNORED_ENDINGS)


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(f"cannot read {path}: {error.strerror or error}")
