"""Slices are named as people read them and cut every row exactly once a feature."""

import numpy as np

from heliotrope.domain.slicing import slice_masks
from heliotrope.spec import parse_spec

SPEC = parse_spec("""
name: loans
task: binary
label: {name: bad, positive: 1}
source: {path: loans.csv}
features:
  - {name: x, type: float}
  - {name: grade, type: category, categories: [A, B, C], nullable: true}
  - {name: income, type: float, nullable: true}
  - {name: owner, type: boolean}
metrics: {primary: roc_auc}
slices: [{feature: grade}, {feature: income, bins: [100, 2000]}, {feature: owner}]
""")
nan = np.nan
ROWS = np.array(
    [[0, 0, 99.9, 1], [0, 1, 100, 0], [0, nan, 1999, 1], [0, 0, 2000, 1], [0, 0, nan, 0]],
    np.float32,
)


def test_slices_are_cut_at_categories_edges_and_missing_values():
    found = {name: np.flatnonzero(mask).tolist() for name, mask in slice_masks(SPEC, ROWS)}
    assert found == {
        "grade = A": [0, 3, 4],
        "grade = B": [1],
        "grade missing": [2],
        "income < 100": [0],
        "income in [100, 2000)": [1, 2],
        "income >= 2000": [3],
        "income missing": [4],
        "owner = false": [1, 4],
        "owner = true": [0, 2, 3],
    }


def test_every_row_is_in_exactly_one_slice_of_a_feature():
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [
            rng.random(500),
            rng.choice([0, 1, 2, nan], 500),
            rng.choice([1, 100, 500, 2000, 1e9, nan], 500),
            rng.integers(0, 2, 500),
        ]
    ).astype(np.float32)
    for feature in ("grade", "income", "owner"):
        masks = [mask for name, mask in slice_masks(SPEC, rows) if name.startswith(feature)]
        assert np.array_equal(np.sum(masks, axis=0), np.ones(500))


def test_a_spec_without_slices_has_none():
    assert slice_masks(SPEC.model_copy(update={"slices": ()}), ROWS) == []
