"""What a person can mend ends a command with one line and an exit code."""

import errno
import os
from pathlib import Path

import pytest

from heliotrope.adapters.truth_state import TruthState
from heliotrope.cli import run_cli
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import UnavailableError
from heliotrope.spec import parse_spec

SPEC = """
name: loans
task: binary
label: {name: late, positive: true}
source: {path: loans.csv}
features: [{name: income, type: float}]
metrics: {primary: accuracy}
"""


def raising(error: Exception) -> int:
    def app(standalone_mode: bool) -> None:
        raise error

    return run_cli(app)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_told_in_one_line(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(OSError(number, os.strerror(number), "/home/me/.heliotrope/x.db")) == 1
    assert capsys.readouterr().err == (
        "Error: /home/me/.heliotrope/x.db must take reads and writes. "
        f"Got: {os.strerror(number)}.\n"
    )


def test_a_full_disk_is_told_where_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert "The disk that holds the home folder must take reads" in capsys.readouterr().err


def test_any_other_error_of_the_system_is_a_fault_of_ours_and_told_whole() -> None:
    with pytest.raises(OSError, match="too many"):
        raising(OSError(errno.EMFILE, "too many open files"))


def test_a_truth_whose_file_cannot_be_opened_says_which(tmp_path: Path) -> None:
    (tmp_path / "credit.db").mkdir()
    with (
        pytest.raises(UnavailableError, match=r"truth's state .*/credit\.db must take writes"),
        TruthState(tmp_path / "credit.db").transaction(TruthPlan.of(parse_spec(SPEC))),
    ):
        pass
