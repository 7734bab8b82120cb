"""Where the peers' own descriptions are: CRDs, KFP's Swagger file; beside the checkout, or told."""

import os
from pathlib import Path

import pytest

ENV = "HELIOTROPE_CONTRACTS"
"""A folder that holds `crds` and `kfp-api`."""


def find_contract(name: str) -> Path | None:
    """A file or folder of the contracts, where it is at hand."""
    checkout = Path(__file__).resolve().parents[2]
    told = os.environ.get(ENV)
    above = [folder / "shared" / "contracts" for folder in list(checkout.parents)[:2]]
    every = [Path(told)] if told else above
    return next((folder / name for folder in every if (folder / name).exists()), None)


def contract(name: str) -> Path:
    """A file or folder of the contracts; the test is skipped where there is none."""
    found = find_contract(name)
    if found is None:
        pytest.skip(f"no {name}: set {ENV} to the folder of the peers' contracts")
    return found


KFP = "kfp-api/kfp_api_v2beta1.swagger.json"
CRDS = "crds"
