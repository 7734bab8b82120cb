"""`heliotrope demo`: the story of a model that decays, told on this machine by the real loop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.adapters.embedded.lock_file import LockFile
    from heliotrope.adapters.embedded.story_stage import StoryStage
    from heliotrope.cli.demo_view import DemoView
    from heliotrope.domain.story_report import StoryReport
    from heliotrope.domain.synthetic.story import Story

SPEED = 43_200.0
"""Half a day a second, at most: the clock waits for the platform."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    keep: bool = typer.Option(False, "--keep", help="Leave the platform running for a look."),
    quick: bool = typer.Option(False, "--quick", help="The economy's turn only."),
    folder: Path = typer.Option(
        Path(".heliotrope/demo"), help="Where it happens; what an earlier demo left there goes."
    ),
    report: Path = typer.Option(Path("story.html"), help="The page that tells it in pictures."),
) -> None:
    """Tell the story whole: a credit model goes live, data breaks, the economy turns, the platform
    notices, finds out why, retrains and rolls out; then a worse model is forced in and taken back.

    Weeks pass in minutes on a simulated clock; everything else is real. Exit code 1 where a
    chapter did not go as it should.
    """
    from heliotrope.adapters.embedded.story_stage import StoryStage
    from heliotrope.adapters.reports.story import render_story
    from heliotrope.bootstrap import CHECKOUT
    from heliotrope.cli.demo_view import DemoView
    from heliotrope.errors import UsageError

    if not report.resolve().parent.is_dir():
        raise UsageError(f"--report must be in a folder that exists. Got {report}.")
    story, place = _story(quick), folder.resolve()
    lock = _emptied(place)
    stage = StoryStage(story, CHECKOUT / "examples" / "credit_risk" / "story.yaml", place, SPEED)
    with DemoView() as view:
        left = False
        try:
            told = _told(stage, story, quick, view)
            left = keep
        finally:
            view.say("Left running." if left else "Stopping.")
            with _undisturbed():
                stage.stop(left)
    (place / "story.json").write_text(told.to_json())
    report.write_text(render_story(told))
    view.summary(told, report.resolve())
    lock.release()
    if keep:
        typer.echo(f"Look at it:   HELIOTROPE_HOME={stage.home} heliotrope status")
        typer.echo(f"End it with:  HELIOTROPE_HOME={stage.home} heliotrope down")
    if not told.as_told:
        raise typer.Exit(1)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C would leave processes behind; what stops ends in a minute or two."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _story(quick: bool) -> "Story":
    from heliotrope.domain.synthetic.story import Story

    return Story(healthy=4, fault=0, mended=0, newcomers=0) if quick else Story()


def _told(stage: "StoryStage", story: "Story", quick: bool, view: "DemoView") -> "StoryReport":
    from heliotrope.errors import HeliotropeError
    from heliotrope.service.story import StoryTeller

    known = stage.prepare()
    view.say(f"{known:,} loans are known. Training the first model; bringing the platform up.")
    bringing, training = stage.begin_up(), stage.train("story.yaml", "train.log")
    if training.wait() != 0:
        raise HeliotropeError(f"The first model must train. See {stage.home / 'train.log'}.")
    bringing.join()
    stage.wait_ready()
    view.say("The champion answers. From here on nobody touches the platform.")
    stage.play()
    chapters = tuple(c for c in story.chapters() if c.days > 0)
    return StoryTeller(story, stage, view).tell(chapters[:2] if quick else chapters)


def _emptied(folder: Path) -> "LockFile":
    """Take a folder for this demo alone; an earlier one's platform ends, and its files go."""
    import shutil

    from heliotrope.adapters.embedded.lock_file import LockFile
    from heliotrope.adapters.embedded.supervisor.launch import stop_platform
    from heliotrope.errors import UsageError

    mark = folder / "made-by-heliotrope-demo"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise UsageError(f"--folder must be empty, or a demo's. Got {folder}, which is not.")
    lock = LockFile(mark)
    if not lock.take():
        raise UsageError(
            f"--folder must be free. Got {folder}, where {lock.holder()} tells the story just now."
        )
    stop_platform(folder / "home")
    for one in folder.iterdir():
        if one.is_dir():
            shutil.rmtree(one)
        elif one != mark:
            one.unlink()
    return lock
