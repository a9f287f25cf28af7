"""How much is in a Parquet file: what its footer says before anything is unpacked, and how long its texts are.

The footer is a struct in Thrift's compact protocol (https://github.com/apache/parquet-format, `FileMetaData`). Field 4
are the row groups, whose field 1 are the columns, whose field 3 is the metadata, whose field 5 counts the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polars import DataFrame, Series

VALUE = 100
"""Bytes that a value takes in memory, more or less, once it is a Python object."""

LARGEST = 256 * 2**20
"""Bytes in memory up to which a file may be packed as tightly as it likes."""

DENSEST = 1000
"""How many times larger than itself a larger file may be in memory; a real one is some 10 to 100 times."""

_DEEPEST = 32


def complaint(content: bytes) -> str:
    """Why a file should not be unpacked; empty if nothing speaks against it."""
    try:
        size = VALUE * values(content)
    except (ValueError, IndexError, TypeError, KeyError, AttributeError):
        return ""  # whoever decodes the file says what is wrong with it
    return _too_large(size, len(content))


def texts_complaint(frame: DataFrame, packed: int) -> str:
    """Why the texts of a file should not be copied, as many short references to a long one; empty if they may.

    Args:
        frame: its columns, where such texts are shared still.
        packed: the size of the file.
    """
    return _too_large(sum(map(_text_bytes, frame.get_columns())), packed)


def _too_large(size: int, packed: int) -> str:
    if size <= max(LARGEST, DENSEST * packed):
        return ""
    return (
        f"would take about {size / 2**20:,.0f} MB in memory, {size // packed:,} times its own size: if it is meant so, "
        "split it into files of fewer rows"
    )


def _text_bytes(column: Series) -> int:
    """How long all texts in a column are, those in lists and structs as well."""
    kind = column.dtype.base_type().__name__
    if kind == "String":
        return int(column.str.len_bytes().sum())
    if kind == "List":
        return _text_bytes(column.explode())
    if kind == "Struct":
        return sum(_text_bytes(column.struct.field(name)) for name in column.struct.fields)
    return 0


def values(content: bytes) -> int:
    """How many values there are, in all columns of all row groups.

    Raises:
        ValueError, IndexError, TypeError, KeyError, AttributeError: there is no such footer.
    """
    length = int.from_bytes(content[-8:-4], "little")
    if length > len(content) - 8:
        raise ValueError("the footer is longer than the file")
    footer = _Reader(content[-8 - length : -8]).struct(0)
    return sum(int(column[3][5]) for group in footer[4] for column in group[1])


class _Reader:
    """Reads Thrift's compact protocol; texts are passed over."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def struct(self, depth: int) -> dict[int, Any]:
        """A struct, by the numbers of its fields."""
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._zigzag()
            fields[number] = self._value(kind & 15, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("too deep")
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            self._place += 8
            return None
        if kind == 8:
            length = self._varint()
            self._place += length
            return None
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth)
        raise ValueError(f"type {kind} is not known")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = self._varint() if head >> 4 == 15 else head >> 4
        if count > len(self._content):
            raise ValueError("a list is longer than the footer")
        kind = head & 15
        return [self._byte() == 1 if kind in (1, 2) else self._value(kind, depth) for _ in range(count)]

    def _byte(self) -> int:
        self._place += 1
        return self._content[self._place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
