"""The arrays that ports pass."""

import numpy as np
import numpy.typing as npt

FloatMatrix = npt.NDArray[np.float32]
"""[rows, features]"""
FloatVector = npt.NDArray[np.float64]
"""[rows], or [rows, classes] for multiclass scores."""
