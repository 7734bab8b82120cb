"""Where the peers' own descriptions are: CRDs, KFP's Swagger file; beside the checkout, or told."""

import os
from pathlib import Path

import pytest

ENV = "HELIOTROPE_CONTRACTS"
"""A folder that holds `crds` and `kfp-api`."""


def contract(name: str) -> Path:
    """A file or folder of the contracts; the test is skipped where there is none."""
    checkout = Path(__file__).resolve().parents[2]
    told = os.environ.get(ENV)
    above = [folder / "shared" / "contracts" for folder in list(checkout.parents)[:2]]
    for folder in [Path(told)] if told else above:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"no {name}: set {ENV} to the folder of the peers' contracts")


KFP = "kfp-api/kfp_api_v2beta1.swagger.json"
CRDS = "crds"
