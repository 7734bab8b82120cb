"""The `heliotrope` command. Each module here registers its own commands; all are thin."""

import errno
import signal
import sys
from collections.abc import Callable
from types import FrameType

import typer
from typer.exceptions import TyperException

from heliotrope import __version__
from heliotrope.cli import (
    backtest,
    collector,
    controller,
    demo,
    deploy,
    explain,
    generate,
    init,
    labels,
    log,
    mlflow_ui,
    models,
    monitor,
    platform,
    predict,
    replay,
    reproduce,
    retrain,
    rollout,
    serve,
    spec,
    spool,
    state,
    train,
    truth,
    up,
)
from heliotrope.errors import HeliotropeError

INTERRUPTED = 130
_DISK_SAYS_NO = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)
_MODULES = (
    *(demo, up, platform),
    *(init, spec, train, models, explain, reproduce, serve, predict, spool, mlflow_ui, generate),
    *(monitor,),
    *(collector, controller, labels, truth, replay),
    *(log, retrain, rollout, state, backtest),
    *(deploy,),
)


def build_app() -> typer.Typer:
    """The typer application with every command."""
    app = typer.Typer(
        name="heliotrope",
        help="Keeps a deployed model right: train, gate, register, serve, explain.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for module in _MODULES:
        module.register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heliotrope {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Keeps a deployed model right: train, gate, register, serve, explain."""


def main() -> None:
    """Run the command line: errors a person can cause become one message and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run_cli(build_app()))


def run_cli(app: Callable[..., object]) -> int:
    """Call a typer app; answers the exit code."""
    try:
        result = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`| head`); not an error.
        sys.stderr.close()
        return 0
    except HeliotropeError as error:
        typer.echo(f"Error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        if error.errno not in _DISK_SAYS_NO:
            raise
        # A person can mend their disk; where in our code it failed tells them nothing.
        what = error.filename or "The disk that holds the home folder"
        typer.echo(f"Error: {what} must take reads and writes. Got: {error.strerror}.", err=True)
        return HeliotropeError.exit_code
    except TyperException as error:
        typer.echo(f"Error: {error.format_message()}", err=True)
        return error.exit_code
    if result == INTERRUPTED:
        # typer makes this code of a KeyboardInterrupt, without a word.
        typer.echo("Interrupted; nothing is half-written.", err=True)
    return result if isinstance(result, int) else 0


def _interrupt(_sign: int, _frame: FrameType | None) -> None:
    # Stopping by a supervisor takes the same way out as Ctrl-C.
    raise KeyboardInterrupt
