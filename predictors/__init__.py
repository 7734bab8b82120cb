"""The predictor: a KServe model server whose answers are checked, identified and written down."""
