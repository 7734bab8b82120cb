"""Plots of an evaluation with matplotlib, the only place that imports it.

Each is drawn twice from one figure: SVG for a report, in the page's own text colour so that it
reads in light and dark, and PNG on white for a registry that shows pictures.
"""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.training import TrainingRecord

_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_LINE = "#8a5cc9"
_OTHER = "#d08a1d"
_SIZE = (4.2, 3.3)
_SHOWN_IMPORTANCES = 15
_SHOWN_CLASSES = 12

Draw = Callable[[Any], None]


def draw_plots(evaluation: Evaluation, record: TrainingRecord | None = None) -> Mapping[str, Draw]:
    """How to draw each plot there is data for, by name and in reading order.

    Names: `roc`, `precision_recall`, `calibration`, `confusion`, `importances`, `training_curve`.
    """
    plots: dict[str, Draw] = {}
    if evaluation.roc is not None:
        plots["roc"] = lambda axes: _roc(axes, evaluation)
    if evaluation.precision_recall is not None:
        plots["precision_recall"] = lambda axes: _precision_recall(axes, evaluation)
    if evaluation.calibration is not None:
        plots["calibration"] = lambda axes: _calibration(axes, evaluation)
    if evaluation.confusion and len(evaluation.confusion) <= _SHOWN_CLASSES:
        plots["confusion"] = lambda axes: _confusion(axes, evaluation)
    if record is not None and record.importances:
        plots["importances"] = lambda axes: _importances(axes, record.importances)
    if record is not None and any(record.curve.values()):
        plots["training_curve"] = lambda axes: _training_curve(axes, record.curve)
    return plots


def plots_svg(evaluation: Evaluation, record: TrainingRecord | None = None) -> dict[str, str]:
    """Each plot as an `<svg>` element to put into a page; the same input gives the same bytes."""
    return {
        name: _inline(_render(name, draw)) for name, draw in draw_plots(evaluation, record).items()
    }


def draw_svg(name: str, draw: Draw, size: tuple[float, float]) -> str:
    """One drawing as an `<svg>` element to put into a page; the same input, the same bytes."""
    return _inline(_render(name, draw, size))


def _render(name: str, draw: Draw, size: tuple[float, float] = _SIZE) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "font.size": 9,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        # Ids are hashed with the name, so that several plots in one page do not share any.
        "svg.hashsalt": name,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "legend.frameon": False,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
        ),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue().decode()


def _inline(svg: str) -> str:
    body = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1system-ui, sans-serif", body)
    return re.sub(r"\s*\n\s*", " ", body)


def _unit(axes: Any, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _with_value(evaluation: Evaluation, metric: str, title: str) -> str:
    value = evaluation.metrics.get(metric)
    return f"{title}: {value.value:.3f}" if value else title


def _roc(axes: Any, evaluation: Evaluation) -> None:
    curve = evaluation.roc
    if curve is None:
        return
    axes.plot([0, 1], [0, 1], color=_OTHER, lw=1, ls="--", label="chance")
    axes.plot(curve.x, curve.y, color=_LINE, lw=1.8, label="candidate")
    title = _with_value(evaluation, "roc_auc", "ROC, area")
    _unit(axes, title, "false positive rate", "true positive rate")
    axes.legend(loc="lower right")


def _precision_recall(axes: Any, evaluation: Evaluation) -> None:
    curve = evaluation.precision_recall
    if curve is None:
        return
    if len(evaluation.classes) == 2:
        rate = evaluation.class_counts.get(evaluation.classes[1], 0) / max(evaluation.rows, 1)
        axes.axhline(rate, color=_OTHER, lw=1, ls="--", label=f"chance: {rate:.3f}")
    axes.step(curve.x, curve.y, where="pre", color=_LINE, lw=1.8, label="candidate")
    title = _with_value(evaluation, "average_precision", "Precision and recall, area")
    _unit(axes, title, "recall", "precision")
    axes.legend(loc="upper right")


def _calibration(axes: Any, evaluation: Evaluation) -> None:
    curve = evaluation.calibration
    if curve is None:
        return
    ends = (min(*curve.x, *curve.y), max(*curve.x, *curve.y))
    axes.plot(ends, ends, color=_OTHER, lw=1, ls="--", label="perfect")
    axes.plot(curve.x, curve.y, color=_LINE, lw=1.4, marker="o", ms=4, label="candidate")
    number = not evaluation.classes
    axes.set(
        title="Calibration, bins of equal count",
        xlabel="mean predicted value" if number else "mean predicted probability",
        ylabel="mean observed value" if number else "observed rate",
    )
    axes.legend(loc="upper left")


def _confusion(axes: Any, evaluation: Evaluation) -> None:
    totals = [max(sum(row), 1) for row in evaluation.confusion]
    shares = [
        [cell / total for cell in row]
        for row, total in zip(evaluation.confusion, totals, strict=True)
    ]
    mesh = [*range(len(totals))]
    # Cells as vector rectangles: imshow would embed a picture.
    axes.pcolormesh(shares, cmap="Purples", vmin=0, vmax=1, edgecolors="none")
    for i, row in enumerate(evaluation.confusion):
        for j, cell in enumerate(row):
            text = f"{cell:,}\n{shares[i][j]:.1%}"
            dark = shares[i][j] > 0.6
            axes.text(
                j + 0.5,
                i + 0.5,
                text,
                ha="center",
                va="center",
                color="#ffffff" if dark else "#22202a",
                fontsize=9 if len(totals) < 6 else 6,
            )
    places = [place + 0.5 for place in mesh]
    axes.set_xticks(places, evaluation.classes, rotation=30 if len(totals) > 3 else 0)
    axes.set_yticks(places, evaluation.classes)
    axes.invert_yaxis()
    title = "Confusion"
    if evaluation.threshold is not None:
        title += f" at threshold {evaluation.threshold:g}"
    axes.set(title=title, xlabel="called", ylabel="true")


def _importances(axes: Any, importances: dict[str, float]) -> None:
    shown = sorted(importances.items(), key=lambda item: -item[1])[:_SHOWN_IMPORTANCES]
    names = [name if len(name) <= 24 else name[:22] + "…" for name, _ in shown]
    axes.barh(range(len(shown)), [share for _, share in shown], color=_LINE, height=0.7)
    axes.set_yticks(range(len(shown)), names, fontsize=7 if len(shown) > 10 else 9)
    axes.invert_yaxis()
    axes.set(title="Permutation importance", xlabel="share")


def _training_curve(axes: Any, curve: dict[str, tuple[float, ...]]) -> None:
    for (name, values), color in zip(curve.items(), (_LINE, _OTHER, "#3f8f73"), strict=False):
        axes.plot(range(1, len(values) + 1), values, color=color, lw=1.5, label=name)
    axes.set(title="Loss while training", xlabel="iteration", ylabel="loss")
    axes.legend(loc="upper right")
