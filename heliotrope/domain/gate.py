"""May this candidate be registered? A pure verdict with its reasons in numbers.

Absolute bounds are judged on the point value: a bound is a person's sanity limit on the estimate,
and its interval stands beside it. Everything comparative is judged with confidence, on paired
differences over the same rows. What cannot be judged is HOLD or ERROR, never PASS.
"""

import math

from heliotrope.domain.document import Document
from heliotrope.domain.evaluation import Difference, Evaluation, SliceScore
from heliotrope.spec import Gates, ModelSpec
from heliotrope.spec.metrics import METRICS
from heliotrope.vocabulary import SEVERITY, Task, Verdict, worst

CONSTANT_IS_PERFECT = frozenset({"calibration_error"})
"""Metrics that a constant wins by construction, so that no baseline is asked for."""

MANY_ROWS = 1_000_000_000
"""More rows than this are not worth an estimate."""


class Reason(Document):
    """One check of the gate."""

    check: str
    """`minimum`, `rows`, `champion`, `baseline`, `slice`, ..."""
    verdict: Verdict
    text: str
    """In numbers: `roc_auc 0.713 [0.690, 0.740] over 1,240 rows >= floor 0.600`."""


class GateReport(Document):
    """The gate's verdict."""

    verdict: Verdict
    reasons: tuple[Reason, ...]

    @property
    def blocking(self) -> tuple[Reason, ...]:
        """The reasons that kept it from a pass."""
        return tuple(r for r in self.reasons if r.verdict is not Verdict.PASS)


def judge(spec: ModelSpec, evaluation: Evaluation) -> GateReport:
    """The verdict on a candidate: the worst of its checks, reasons by falling severity.

    With `gates.enabled: false` it is PASS with one loud reason that says what it would have been.
    """
    reasons = [
        *_rows(spec.gates, evaluation),
        _primary(spec, evaluation),
        *_bounds(spec.gates, evaluation),
        _champion(spec.gates, evaluation),
        *_baselines(spec, evaluation),
        *_slices(spec.gates, evaluation),
    ]
    reasons.sort(key=lambda reason: -SEVERITY[reason.verdict])
    verdict = worst([reason.verdict for reason in reasons])
    report = GateReport(verdict=verdict, reasons=tuple(reasons))
    return report if spec.gates.enabled else _off(report)


def _off(report: GateReport) -> GateReport:
    would = f"With gates on the verdict would be {report.verdict}"
    why = f": {report.reasons[0].text}" if report.blocking else ""
    text = f"GATES ARE OFF (gates.enabled: false): passed without being judged. {would}{why}"
    return GateReport(
        verdict=Verdict.PASS, reasons=(Reason(check="gates", verdict=Verdict.PASS, text=text),)
    )


def _rows(gates: Gates, evaluation: Evaluation) -> list[Reason]:
    rows, short = evaluation.rows, gates.minimum_rows - evaluation.rows
    enough = short <= 0
    tail = "enough" if enough else f"{short:,} more are needed"
    found = [
        Reason(
            check="rows",
            verdict=Verdict.PASS if enough else Verdict.HOLD,
            text=f"{rows:,} holdout rows of at least {gates.minimum_rows:,}: {tail}",
        )
    ]
    if evaluation.class_counts:
        missing = _class_shortage(gates, evaluation.class_counts)
        name, count = min(evaluation.class_counts.items(), key=lambda item: (item[1], item[0]))
        least = f"of at least {gates.minimum_positives:,}"
        text = f"{count:,} rows of the rarest class ({name}) {least}: "
        found.append(
            Reason(
                check="class_rows",
                verdict=Verdict.HOLD if missing else Verdict.PASS,
                text=text + (f"{missing:,} more are needed" if missing else "enough"),
            )
        )
    return found


def _class_shortage(gates: Gates, counts: dict[str, int]) -> int:
    return max(0, gates.minimum_positives - min(counts.values())) if counts else 0


def _primary(spec: ModelSpec, evaluation: Evaluation) -> Reason:
    name, expected = evaluation.primary, spec.metrics.primary
    if name != expected:
        text = f"the evaluation's primary metric is {name}, the spec's {expected}"
        return Reason(check="metric", verdict=Verdict.ERROR, text=text)
    metric = evaluation.metrics.get(name)
    if metric is None:
        text = f"{name} was not computed"
        return Reason(check="metric", verdict=Verdict.ERROR, text=text)
    if not _finite(metric.value, metric.low, metric.high):
        text = f"{name} {metric} is undefined over {_over(evaluation)}"
        return Reason(check="metric", verdict=Verdict.ERROR, text=text)
    text = f"{name} {metric} over {_over(evaluation)}"
    return Reason(check="metric", verdict=Verdict.PASS, text=text)


def _over(evaluation: Evaluation) -> str:
    if not evaluation.class_counts:
        return f"{evaluation.rows:,} rows"
    counts = ", ".join(
        f"{count:,} of class {name}" for name, count in evaluation.class_counts.items()
    )
    return f"{evaluation.rows:,} rows ({counts})"


def _bounds(gates: Gates, evaluation: Evaluation) -> list[Reason]:
    found = []
    for name, bound in sorted(gates.bounds.items()):
        floor = METRICS[name].greater_is_better
        word = "floor" if floor else "ceiling"
        metric = evaluation.metrics.get(name)
        if metric is None or math.isnan(metric.value):
            state = "was not computed" if metric is None else "is undefined on this holdout"
            verdict, text = Verdict.ERROR, f"{name} {state}; its {word} is {bound:g}"
        else:
            met = metric.value >= bound if floor else metric.value <= bound
            verdict = Verdict.PASS if met else Verdict.FAIL
            sign = {(True, True): ">=", (True, False): "<", (False, True): "<="}
            text = f"{name} {metric} {sign.get((floor, met), '>')} {word} {bound:g}"
            if metric.low < bound < metric.high:
                text += f"; the {word} lies within the interval"
        found.append(Reason(check="bound", verdict=verdict, text=text))
    return found


def _champion(gates: Gates, evaluation: Evaluation) -> Reason:
    def say(verdict: Verdict, text: str) -> Reason:
        return Reason(check="champion", verdict=verdict, text=text)

    version = evaluation.champion_version
    who = f"champion v{version}" if version is not None else "champion"
    if evaluation.champion_error is not None:
        return say(Verdict.ERROR, f"the {who} could not be scored: {evaluation.champion_error}")
    if version is None:
        if evaluation.difference is not None:
            return say(Verdict.ERROR, "a difference to a champion, but no champion is named")
        text = "no champion yet: this is the first model, judged by the other checks alone"
        return say(Verdict.PASS, text)
    short = _comparison_shortage(gates, evaluation)
    if short:
        return say(Verdict.HOLD, f"{who}: {short}")
    gap = evaluation.difference
    if gap is None or not _finite(gap.value, gap.low, gap.high):
        got = "was not computed" if gap is None else f"is undefined: {_show(gap)}"
        return say(Verdict.ERROR, f"the {evaluation.primary} difference to {who} {got}")
    rows = evaluation.comparison_rows
    verdict, text = _compare(gates, gap, evaluation.rows if rows is None else rows)
    return say(verdict, f"{evaluation.primary} against {who}: {text}")


def _comparison_shortage(gates: Gates, evaluation: Evaluation) -> str:
    rows = evaluation.comparison_rows
    if rows is None or rows == evaluation.rows:
        return ""
    missing = gates.minimum_rows - rows
    missing_class = _class_shortage(gates, evaluation.comparison_class_counts)
    if missing <= 0 and missing_class == 0:
        return ""
    until = evaluation.champion_trained_until
    through = f" up to {until:%Y-%m-%d %H:%M} UTC" if until else ""
    text = (
        f"it was trained on data{through}, so {evaluation.rows - rows:,} of the "
        f"{evaluation.rows:,} holdout rows would flatter it; {rows:,} are new to both, "
        f"of at least {gates.minimum_rows:,}"
    )
    if missing > 0:
        text += f": {missing:,} more mature rows are needed"
    if missing_class:
        counts = evaluation.comparison_class_counts
        name, count = min(counts.items(), key=lambda item: (item[1], item[0]))
        text += (
            f"; {count:,} of class {name} of at least {gates.minimum_positives:,}: "
            f"{missing_class:,} more are needed"
        )
    return text


def _compare(gates: Gates, gap: Difference, rows: int) -> tuple[Verdict, str]:
    shown = f"difference {_show(gap)} at {gates.confidence:.0%} one-sided, {rows:,} rows"
    if gates.tolerance > 0:
        bound, asked = -gates.tolerance, f"not worse than {gates.tolerance:g}"
        passed, failed = gap.low >= bound, gap.high < bound
    else:
        bound = gates.margin
        asked = f"better by more than {bound:g}" if bound else "better"
        passed, failed = gap.low > bound, gap.high <= bound
    if passed:
        return Verdict.PASS, f"{asked}: {shown}"
    if failed:
        same = gap.low == gap.high == 0
        tail = "; it does not differ on any row that counts, so more rows cannot help"
        return Verdict.FAIL, f"not {asked}: {shown}" + (tail if same else "")
    return Verdict.HOLD, f"not shown to be {asked}: {shown}; {_rows_needed(gap, bound, rows)}"


def _rows_needed(gap: Difference, bound: float, rows: int) -> str:
    """How many rows would decide: the interval shrinks with the square root of the rows."""
    lead = gap.value - bound
    if lead <= 0:
        return f"a difference of {gap.value:.4f} would not pass at any number of rows"
    half = gap.value - gap.low
    if half > lead * math.sqrt(MANY_ROWS / max(rows, 1)):
        return f"a difference of {gap.value:.4f} would need more than {MANY_ROWS:,} rows to pass"
    needed = math.ceil(rows * (half / lead) ** 2)
    return f"if it stays {gap.value:.4f}, about {max(needed, rows + 1):,} rows would show it"


def _baselines(spec: ModelSpec, evaluation: Evaluation) -> list[Reason]:
    if not spec.gates.beat_baselines:
        text = "not compared with the trivial baselines (gates.beat_baselines: false)"
        return [Reason(check="baseline", verdict=Verdict.PASS, text=text)]
    names = ["majority", *(["persistence"] if spec.stream else [])]
    return [_baseline(evaluation, name, _called(spec, name)) for name in names]


def _called(spec: ModelSpec, name: str) -> str:
    """As people call a baseline: where numbers are predicted there is no majority."""
    return "mean" if name == "majority" and spec.task is Task.REGRESSION else name


def _baseline(evaluation: Evaluation, name: str, called: str) -> Reason:
    metric = evaluation.primary
    gap = evaluation.baseline_differences.get(name)
    theirs = evaluation.baselines.get(name, {}).get(metric)
    if gap is None and name == "majority" and metric in CONSTANT_IS_PERFECT:
        text = f"{metric}: a constant has none by construction, so {name} is no measure of it"
        return Reason(check="baseline", verdict=Verdict.PASS, text=text)
    if gap is None or not _finite(gap.value, gap.low, gap.high):
        got = "was not computed" if gap is None else f"is undefined: {_show(gap)}"
        text = f"the {metric} difference to the {called} baseline {got}"
        return Reason(check="baseline", verdict=Verdict.ERROR, text=text)
    scored = f" ({theirs.value:.4f})" if theirs else ""
    if gap.low > 0:
        verdict, word = Verdict.PASS, "beats"
    elif gap.high <= 0:
        verdict, word = Verdict.FAIL, "does not beat"
    else:
        verdict, word = Verdict.HOLD, "is not shown to beat"
    text = f"{metric} {word} the {called} baseline{scored}: difference {_show(gap)}"
    if verdict is Verdict.HOLD:
        text += f"; {_rows_needed(gap, 0.0, evaluation.rows)}"
    return Reason(check="baseline", verdict=verdict, text=text)


def _slices(gates: Gates, evaluation: Evaluation) -> list[Reason]:
    if evaluation.champion_version is None or not evaluation.slices:
        return []
    found, held, apart = [], 0, []
    for part in sorted(evaluation.slices, key=lambda part: part.name):
        gap = part.difference
        if part.rows < gates.slice_minimum_rows or (gap is None and part.note is not None):
            apart.append(_not_judged(gates, part))
        elif gap is None or not _finite(gap.value, gap.low, gap.high):
            got = "was not computed" if gap is None else f"is undefined: {_show(gap)}"
            text = f"{part.name}: the {evaluation.primary} difference {got}"
            found.append(Reason(check="slice", verdict=Verdict.ERROR, text=text))
        elif gap.high < -gates.slice_drop:
            text = (
                f"{part.name}: {evaluation.primary} falls by more than {gates.slice_drop:g} below "
                f"the champion: difference {_show(gap)} over {part.rows:,} rows"
            )
            found.append(Reason(check="slice", verdict=Verdict.FAIL, text=text))
        else:
            held += 1
    text = f"{held} slice(s) not shown to fall by more than {gates.slice_drop:g} below the champion"
    if apart:
        text += f"; reported, not judged: {', '.join(apart)}"
    return [*found, Reason(check="slices", verdict=Verdict.PASS, text=text)]


def _not_judged(gates: Gates, part: SliceScore) -> str:
    if part.rows < gates.slice_minimum_rows:
        return f"{part.name} ({part.rows:,} of {gates.slice_minimum_rows:,} rows)"
    return f"{part.name} ({part.note})"


def _show(gap: Difference) -> str:
    return f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


def _finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
