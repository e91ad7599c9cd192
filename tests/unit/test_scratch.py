"""Whatever a fold leaves behind is removed, and keeps no worker from starting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consumer.scratch import remove_tree, scratch_folder


def dig(folder: Path, depth: int) -> None:
    """Folders within folders, deeper than a path, the stack or the open files of a process go."""
    top = os.getcwd()
    try:
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        for _ in range(depth):
            os.mkdir("deeper")
            os.chdir("deeper")
        Path("file").touch()
    finally:
        os.chdir(top)


def test_a_deep_tree_is_removed(tmp_path: Path) -> None:
    dig(tmp_path / "fold", 1500)

    assert remove_tree(tmp_path / "fold")

    assert os.listdir(tmp_path) == []


def test_a_deep_tree_of_a_killed_worker_lets_the_next_one_start(tmp_path: Path) -> None:
    # Given the scratch folder of a worker that was killed
    dead = tmp_path / "dead"
    dig(dead, 1500)
    dead.with_suffix(".lock").touch()

    # When another one starts here, and leaves as much itself
    with scratch_folder(tmp_path, "next") as folder:
        left = os.listdir(tmp_path)
        dig(folder / "fold", 1500)

    # Then the first one's folder was removed, and so is the second one's
    assert sorted(left) == ["next", "next.lock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", ["mkfifo", "symlink", "file", "nothing"])
def test_what_took_the_folders_place_is_removed(tmp_path: Path, make: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "kept").touch()
    folder = tmp_path / "fold"
    if make == "mkfifo":
        os.mkfifo(folder)
    elif make == "symlink":
        folder.symlink_to(elsewhere)
    elif make == "file":
        folder.touch()

    assert remove_tree(folder)

    assert os.listdir(tmp_path) == ["elsewhere"]
    assert os.listdir(elsewhere) == ["kept"]
    assert elsewhere.stat().st_mode & 0o777 == 0o755


def test_links_and_odd_files_within_are_removed_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    folder = tmp_path / "fold"
    closed = folder / "one" / "closed"
    closed.mkdir(parents=True)
    for place in (folder, folder / "one", closed):
        (place / "link").symlink_to(elsewhere)
        os.mkfifo(place / "fifo")
        (place / "dangling").symlink_to("nowhere")
        os.close(os.open(os.fsencode(place) + b"/\xff", os.O_CREAT))
    closed.chmod(0)
    folder.chmod(0)

    assert remove_tree(folder)

    assert os.listdir(tmp_path) == ["elsewhere"]
    assert os.listdir(elsewhere) == ["kept"]


def test_a_removal_that_takes_too_long_can_be_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "fold"
    dig(folder, 50)

    assert not remove_tree(folder, within=0)
    assert folder.exists()

    assert remove_tree(folder)
    assert os.listdir(tmp_path) == []
