"""The columns a model reads, with the bounds that make bad input refusable."""

import math
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from heliotrope.spec.base import Part, show


class FeatureType(StrEnum):
    """How a column is read."""

    FLOAT = "float"
    """A real number."""
    INTEGER = "integer"
    """A whole number within float32's exact range, +-16,777,216."""
    CATEGORY = "category"
    """One of a list of strings."""
    BOOLEAN = "boolean"
    """true or false."""

    @property
    def numeric(self) -> bool:
        """Whether bounds apply."""
        return self in (FeatureType.FLOAT, FeatureType.INTEGER)


FLOAT32_MAX = 3.4028234663852886e38


class Feature(Part):
    """One input column.

    Numbers are handed to the model as float32, which is also what the served ONNX graph
    computes in; so training and serving see the same value to the bit.
    """

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")
    """The column's name in the source, in requests and in the log."""
    type: FeatureType
    """float, integer, category or boolean."""
    min: float | None = None
    """Smallest value allowed, inclusive (float and integer only)."""
    max: float | None = None
    """Largest value allowed, inclusive (float and integer only)."""
    categories: tuple[str, ...] | None = Field(default=None, max_length=10_000)
    """Every value allowed (category only)."""
    nullable: bool = False
    """Whether the value may be missing, in training and in requests."""
    description: str = ""
    """What it is, for the people who read reports."""

    @model_validator(mode="after")
    def _bounds_fit_type(self) -> Self:
        problems: list[str] = []
        if self.type is FeatureType.CATEGORY:
            problems += self._category_problems()
        elif self.categories is not None:
            problems.append(f"categories|be left out for type {self.type}|{show(self.categories)}")
        problems += self._bound_problems()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _category_problems(self) -> list[str]:
        if not self.categories:
            return ["categories|list at least one value for type category|" + show(self.categories)]
        repeated = sorted({c for c in self.categories if self.categories.count(c) > 1})
        return [f"categories|list each value once|{show(repeated[0])} twice"] if repeated else []

    def _bound_problems(self) -> list[str]:
        given = {"min": self.min, "max": self.max}
        if not self.type.numeric:
            return [
                f"{name}|be left out for type {self.type}|{value}"
                for name, value in given.items()
                if value is not None
            ]
        problems = [
            f"{name}|be a finite number that fits float32|{value}"
            for name, value in given.items()
            if value is not None and not (math.isfinite(value) and abs(value) <= FLOAT32_MAX)
        ]
        if not problems and self.min is not None and self.max is not None and self.min > self.max:
            problems.append(f"min|be at most max ({self.max})|{self.min}")
        return problems
