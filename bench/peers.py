"""Plain KServe servers to measure beside ours: `python bench/peers.py sklearn|empty ...`.

`sklearn` does what KServe's sklearnserver does: the fitted pipeline in the process, the request's
lists into numpy, `predict_proba`. `empty` answers without a model, so it costs what KServe costs.
Logging a line a request is off in both, as it is in ours.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kserve import Model, ModelServer


class SklearnModel(Model):  # type: ignore[misc]
    """A scikit-learn pipeline over rows: numbers, or named columns where it encodes them itself."""

    def __init__(self, name: str, skops_file: Path, columns: list[str] | None) -> None:
        super().__init__(name)
        import skops.io

        unknown = skops.io.get_untrusted_types(file=skops_file)
        self._pipeline = skops.io.load(skops_file, trusted=unknown)
        self._columns = columns
        self.ready = True

    async def predict(self, payload: dict[str, Any], _headers: dict[str, str] | None = None) -> Any:
        """Probabilities of the positive class."""
        rows: Any
        if self._columns is None:
            rows = np.array(payload["instances"], dtype=np.float32)
        else:
            rows = pd.DataFrame(payload["instances"], columns=self._columns)
        return {"predictions": self._pipeline.predict_proba(rows)[:, 1].tolist()}


class EmptyModel(Model):  # type: ignore[misc]
    """Answers at once."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    async def predict(self, _payload: Any, _headers: dict[str, str] | None = None) -> Any:
        """One constant."""
        return {"predictions": [0]}


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("kind", choices=["sklearn", "empty"])
    parser.add_argument("--skops", type=Path)
    parser.add_argument("--columns", help="comma-separated, where the pipeline takes a data frame")
    arguments, _ = parser.parse_known_args()
    sklearn = arguments.kind == "sklearn"
    columns = arguments.columns.split(",") if arguments.columns else None
    model = SklearnModel("loans", arguments.skops, columns) if sklearn else EmptyModel("loans")
    server = ModelServer(enable_grpc=False, enable_latency_logging=False)
    logging.getLogger("kserve").setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    server.start([model])


if __name__ == "__main__":
    main()
