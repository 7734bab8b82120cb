"""`heliotrope models [MODEL]`: what is registered, and where it comes from in short."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from heliotrope.service.lineage import VersionFacts


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)


def models(
    model: str | None = typer.Argument(None, help="Only this one."),
    json_output: bool = typer.Option(False, "--json", help="As JSON, with every tag."),
) -> None:
    """List versions with aliases, metrics and lineage in short, newest first."""
    import json

    from rich.console import Console

    from heliotrope.bootstrap import platform
    from heliotrope.service.lineage import VersionFacts, choose

    registry = platform().registry
    if model is not None:
        choose(registry, model, None)
    names = [model] if model else registry.models()
    found = {n: [VersionFacts.of(v) for v in registry.versions(n)] for n in names}
    if json_output:
        facts = {n: [v.model_dump(mode="json") for v in listed] for n, listed in found.items()}
        typer.echo(json.dumps(facts, indent=2))
        return
    if not found:
        typer.echo("No model is registered yet. Train one: heliotrope train SPEC")
        return
    console = Console()
    for name, versions in found.items():
        console.print(versions_table(name, versions))
    console.print("heliotrope explain MODEL VERSION says all of one.", style="dim", highlight=False)


def versions_table(name: str, versions: list["VersionFacts"]) -> "Table":
    """The versions of one model."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from heliotrope import vocabulary as names

    # Eighty columns hold it: few lines between, and what `explain` says is left to it.
    table = Table(title=name, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("v", justify="right", no_wrap=True)
    table.add_column("alias", no_wrap=True)
    table.add_column("registered (UTC)", no_wrap=True)
    table.add_column("primary metric", no_wrap=True)
    for title in ("data", "code", "gate"):
        table.add_column(title)
    for version in versions:
        tags = version.tags
        data = f"v{tags.get(names.TAG_SNAPSHOT_VERSION, '?')}"
        short = tags.get(names.TAG_SNAPSHOT_HASH, "")[:8]
        commit, _, dirty = tags.get(names.TAG_COMMIT, "unknown").partition(" ")
        table.add_row(
            version.version,
            ", ".join(version.aliases),
            f"{version.created_at:%Y-%m-%d %H:%M}",
            _primary(version),
            f"{data} {short}".strip(),
            commit[:8] + ("+" if dirty else ""),
            tags.get(names.TAG_VERDICT, ""),
            style="bold" if names.ALIAS_CHAMPION in version.aliases else "",
        )
    return table


def _primary(version: "VersionFacts") -> str:
    from heliotrope.vocabulary import TAG_PRIMARY

    name = version.tags.get(TAG_PRIMARY, "")
    value = version.metrics.get(name)
    return name if value is None else f"{name} {value:.4f}"
