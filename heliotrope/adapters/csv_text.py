"""The CSV faults a person makes, found in the text itself and said with line and column."""

import csv
import gzip
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from heliotrope.errors import DataFault

_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_LONGEST_HEADER = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The text of a CSV file, unpacked if it ends in .gz, without its byte order mark."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
        yield text


def unpack(packed: Path, to: Path, name: str) -> Path:
    """Unpack a gzip file and check its sum; answers `to`.

    DuckDB reads a file that was cut short as far as it goes and says nothing.

    Raises:
        DataFault: it is not gzip, or not all of it is there.
    """
    try:
        with gzip.open(packed, "rb") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataFault(
            f"source {name} must be a whole gzip file, as its ending says. {error}"
        ) from error
    return to


def header(path: Path, name: str, delimiter: str) -> list[str]:
    """The column names of a CSV file.

    Args:
        path: where it is now.
        name: how messages call it.
        delimiter: what the spec says separates its columns.

    Raises:
        DataFault: it is empty, not UTF-8 text, has a name twice or none, or another delimiter.
    """
    try:
        with opened(path) as text:
            start = text.readline(_LONGEST_HEADER)
    except UnicodeDecodeError as error:
        raise DataFault(f"source {name} must be UTF-8 text. It is not: {error.reason}.") from error
    if not start.strip():
        raise DataFault(f"source {name} must be CSV with a header line. It is empty.")
    if "\x00" in start:
        raise DataFault(f"source {name} must be CSV text. Got bytes that are not text.")
    columns = [column.strip() for column in next(csv.reader([start], delimiter=delimiter))]
    if len(columns) == 1:
        for other, words in _DELIMITERS.items():
            if other != delimiter and other in start:
                raise DataFault(
                    f"source {name} must be separated by {_words(delimiter)}, as source.delimiter "
                    f"says. Its header is one column, {start.strip()[:80]!r}, and looks separated "
                    f"by {words}: set source.delimiter to {other!r}."
                )
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated or not all(columns):
        got = f"{repeated[0]!r} twice" if repeated else "a column with no name"
        raise DataFault(f"source {name} must name each column once in its header. Got {got}.")
    return columns


def _words(delimiter: str) -> str:
    return _DELIMITERS.get(delimiter, repr(delimiter))


def line_of_row(path: Path, delimiter: str, row: int) -> int:
    """The 1-based line on which data row `row` (0-based) begins, quoted newlines counted."""
    with opened(path) as text:
        reader = csv.reader(text, delimiter=delimiter)
        next(reader, None)
        before = reader.line_num
        position = -1
        for fields in reader:
            if fields:
                position += 1
            if position == row:
                break
            before = reader.line_num
    return before + 1


def explain(name: str, error: str) -> str:
    """What DuckDB says of a broken line, in one sentence."""
    line = re.search(r"CSV Error on Line: (\d+)", error)
    original = re.search(r"Original Line: ?(.*)", error)
    widths = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", error)
    at = f" line {line[1]}" if line else ""
    got = f" Got {original[1][:120]!r}." if original else ""
    if widths:
        return (
            f"source {name}{at} must have {widths[1]} columns, as the header does. "
            f"It has {widths[2]}.{got}"
        )
    reasons = [part.strip() for part in error.splitlines()[1:] if part.strip()]
    reason = next((r for r in reasons if not r.startswith(("Original Line", "Possible"))), "")
    return f"source {name}{at} must be CSV: {reason[:200]}{got}"
