"""Base of everything that is written down between two steps."""

from typing import Self

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A frozen value that survives a trip through JSON unchanged.

    Non-finite floats are written as the strings `NaN`, `Infinity` and `-Infinity`, and read back.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", use_attribute_docstrings=True
    )

    def to_json(self) -> str:
        """Indented JSON, with a final newline."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; raises pydantic.ValidationError on anything else."""
        return cls.model_validate_json(text)
