"""What a caller may name as files, and what is refused before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from producer.files import FilesArgument, named_files, submission_files
from schemas.errors import FileError, MissingFileError
from schemas.files import MAX_SUBMISSION_BYTES, File

CODE = "class Classifier:\n    pass\n"


def test_a_folder_stands_for_its_files_without_editors_leftovers(tmp_path: Path) -> None:
    # Given a folder as it looks after an afternoon of work
    for name in ("classifier.py", "table.csv", ".hidden", "classifier.py~", "a.pyc", "#x#"):
        (tmp_path / name).write_text(CODE)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / ".git").mkdir()

    # When it is named as the submission
    files = submission_files(tmp_path)

    # Then what the author wrote is taken
    assert set(files) == {"classifier.py", "table.csv"}
    assert files["classifier.py"].to_bytes() == CODE.encode()


def test_paths_and_folders_can_be_mixed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "classifier.py").write_text(CODE)
    (tmp_path / "extra.py").write_text(CODE)

    named = named_files([tmp_path / "folder", str(tmp_path / "extra.py")])

    assert [file.name for file in named] == ["classifier.py", "extra.py"]


def test_contents_can_be_text_bytes_or_files() -> None:
    files = submission_files({"a.py": CODE, "b.bin": b"\xff\x00", "c.py": File.of(CODE)})

    assert {name: file.to_bytes() for name, file in files.items()} == {
        "a.py": CODE.encode(),
        "b.bin": b"\xff\x00",
        "c.py": CODE.encode(),
    }


@pytest.mark.parametrize(
    "name",
    ["../classifier.py", "/etc/passwd", "a/b.py", "..", "", ".hidden", "-rf", "a\nb", "a\\b"],
)
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(FileError, match="file name"):
        submission_files({name: CODE})


def test_a_missing_file_is_named_with_the_folder_it_was_looked_for_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(MissingFileError, match=f"clasifier.py.*{tmp_path}") as caught:
        submission_files(["clasifier.py"])

    # A caller who expects Python's own error catches it, too
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)


def test_a_sub_folder_is_named_rather_than_silently_left_out(tmp_path: Path) -> None:
    (tmp_path / "classifier.py").write_text(CODE)
    (tmp_path / "models").mkdir()

    with pytest.raises(FileError, match=r"models is a sub-folder"):
        submission_files(tmp_path)


def test_the_same_name_from_two_folders_is_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "classifier.py").write_text(CODE)

    with pytest.raises(FileError, match=r"two files are named 'classifier.py'"):
        submission_files([tmp_path / "one", tmp_path / "two"])


def test_too_large_a_submission_is_refused_before_it_is_read(tmp_path: Path) -> None:
    # Given a sparse file of a terabyte, which nobody wants to read
    huge = tmp_path / "weights.bin"
    huge.touch()
    os.truncate(huge, 1 << 40)

    with pytest.raises(FileError, match=rf"weights.bin.*{1 << 40}") as caught:
        submission_files([huge])
    assert str(MAX_SUBMISSION_BYTES) in str(caught.value)


@pytest.mark.parametrize("files", [[], {}])
def test_no_file_at_all_is_refused(files: FilesArgument) -> None:
    with pytest.raises(FileError, match="no file"):
        submission_files(files)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"no file is in the folder {tmp_path}"):
        submission_files(tmp_path)


def test_content_that_is_neither_text_nor_bytes_names_the_file() -> None:
    with pytest.raises(FileError, match=r"'a.py' is int"):
        submission_files({"a.py": 3})
