"""What a person sees of a running platform."""

from datetime import UTC, datetime

import pytest

from heliotrope.adapters.embedded.supervisor.state import (
    ChildStatus,
    ModelStatus,
    PlatformState,
)
from heliotrope.cli.platform_view import show

AT = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_an_address_is_never_cut_however_long_the_message(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    address = "http://127.0.0.1:25175"
    child = ChildStatus(
        name="credit-risk-story/12", state="starting", pid=7, url=address, restarts=1,
        started_at=AT, message="ended by SIGKILL, and what it said last was long; " * 3,
    )  # fmt: skip
    model = ModelStatus(model="credit-risk", weights={"1": 100}, settled=True, message="")
    show(
        PlatformState(
            pid=1, ticks=1, home="h", specs=(), started_at=AT, stopping=False, ready=False,
            urls={"gateway": address}, children=(child,), models=(model,), notes=(),
        )
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert f" {address} " in shown
    assert f"Predict: {address}/v1/models/credit-risk:predict" in shown
