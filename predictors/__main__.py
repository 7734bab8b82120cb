"""`python -m predictors`: serve a model folder."""

import logging
import os
import sys
import warnings


def main(arguments: list[str]) -> int:
    """Serve until stopped; 0 then, or the error's exit code with its message on stderr."""
    # Read by OpenMP when onnxruntime and numpy are loaded: a second thread only takes turns.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # KServe's own; it would stand in every predictor's log and nobody who reads that can mend it.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    from predictors.settings import parse_settings

    settings = parse_settings(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    from heliotrope.errors import HeliotropeError
    from predictors.loading import load_model

    try:
        loaded = load_model(settings.model_dir, settings.model_version)
        from predictors.server import serve
        from predictors.shipper import shipping

        with shipping(settings.spool_dir, os.environ, settings.drain_seconds):
            serve(settings, loaded)
    except HeliotropeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
