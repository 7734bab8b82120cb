"""Temporary folders go, also those of processes that were killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heliotrope.adapters.scratch import PREFIX, scratch_folder
from heliotrope.adapters.whole_file import write_whole

HOLDER = """
import sys
from heliotrope.adapters.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    (folder / "spilled").write_text("rows")
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_ones_folder_goes_with_the_next_and_one_in_use_stays(tmp_path: Path) -> None:
    killed, left = holder(tmp_path)
    working, used = holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "spilled").exists()
    with scratch_folder(str(tmp_path)) as ours:
        assert sorted(tmp_path.iterdir()) == sorted([used, ours])
        assert (used / "spilled").read_text() == "rows"
    working.communicate()
    assert working.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_to_be_left_behind_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "in-use.lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}not-locked-yet").mkdir()
    (tmp_path / f"{PREFIX}file").touch()
    with scratch_folder(str(tmp_path)):
        pass
    assert len(list(tmp_path.iterdir())) == 4
    assert (elsewhere / "in-use.lock").exists()


def test_a_file_that_cannot_be_replaced_leaves_no_part_behind(tmp_path: Path) -> None:
    kept = tmp_path / "state.json"
    write_whole(kept, "before")
    write_whole(kept, "after")
    assert kept.read_text() == "after"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "state.json"]
