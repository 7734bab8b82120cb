"""What a person sees of a running platform."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from heliotrope.adapters.embedded.supervisor.state import PlatformState

_STYLE = {"ready": "green", "starting": "yellow", "waiting": "red", "stopped": "dim"}
Tell = Callable[[PlatformState], None]


def show(state: PlatformState) -> None:
    """Print the table and the addresses."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_page(state))


def _page(state: PlatformState) -> Group:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("process", "state", "address", "restarts"):
        # An address that is cut is of no use; the message has the room that is left.
        table.add_column(heading, no_wrap=True)
    table.add_column("message", overflow="fold")
    for child in state.children:
        shown = Text(child.state, style=_STYLE.get(child.state, ""))
        table.add_row(child.name, shown, child.url or "", str(child.restarts), child.message)
    lines = [Text(line) for line in _lines(state)]
    return Group(table, *lines)


def _lines(state: PlatformState) -> list[str]:
    lines = [f"{model.model}: {_model(model.weights, model.message)}" for model in state.models]
    lines += list(state.notes)
    if state.urls.get("controller"):
        lines.append(f"Live page: {state.urls['controller']}")
    for model in state.models:
        if model.weights:
            lines.append(f"Predict: {state.urls['gateway']}/v1/models/{model.model}:predict")
    return lines


def _model(weights: dict[str, int], message: str) -> str:
    split = ", ".join(f"version {v} gets {weight}%" for v, weight in sorted(weights.items()))
    return "; ".join(filter(None, [split or "nobody answers yet", message]))


@contextmanager
def watching() -> Iterator[Tell]:
    """A live table on a terminal, and a line a change elsewhere."""
    console = Console(highlight=False)
    if not console.is_terminal:
        yield _quiet()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda state: live.update(_page(state), refresh=True)


def _quiet() -> Tell:
    last: dict[str, str] = {}

    def tell(state: PlatformState) -> None:
        said = {
            child.name: _child(child.state, child.url, child.message) for child in state.children
        }
        said |= {f"model {m.model}": _model(m.weights, m.message) for m in state.models}
        said |= dict.fromkeys(state.notes, "")
        for name, text in said.items():
            if last.get(name) != text:
                typer.echo(f"{name}: {text}" if text else name)
        last.clear()
        last.update(said)

    return tell


def _child(state: str, url: str | None, message: str) -> str:
    at = f" at {url}" if url and state == "ready" else ""
    return f"{state}{at}" + (f" ({message})" if message else "")
