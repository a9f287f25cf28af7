"""The actions of sheet."""

from __future__ import annotations

from typing import Any

from envpool.tools import tool


@tool
def open_sheet(name: str) -> None:
    """opens a sheet; do this first"""


@tool
def get_all_values() -> None:
    """shows the whole sheet"""


@tool
def get_range_values(start_position: str, end_position: str) -> None:
    """shows a part of it; cells are written as in 'B2'"""


@tool
def get_cell_value(position: str) -> None:
    """shows one cell"""


@tool
def get_value_by_formula(
    operator: str, start_position: str = ..., end_position: str = ..., position_list: list[Any] = ...
) -> None:
    """computes from cells; operators: SUM, AVERAGE, COUNT, MAX, MIN, MINUS, PRODUCT; give two corners or a list of
    cells
    """


@tool
def get_A1_annotation(row: int, col: int) -> None:
    """turns row and column, counted from 1, into a name such as 'B2'"""


@tool
def filter_cells(query: str, in_row: int = ..., in_column: int = ...) -> None:
    """finds the cells that hold a text"""


@tool
def get_note(position: str) -> None:
    """reads the note at a cell"""


@tool
def update_cell(position: str, value: str | float | list[Any]) -> None:
    """sets one cell"""


@tool
def update_range(start_position: str, end_position: str, values_list: list[Any]) -> None:
    """sets a part of the sheet, as a list of rows"""


@tool
def update_cell_by_formula(
    operator: str,
    result_position: str,
    start_position: str = ...,
    end_position: str = ...,
    position_list: list[Any] = ...,
) -> None:
    """computes from cells into one; operators: SUM, AVERAGE, COUNT, MAX, MIN, MINUS, PRODUCT; give two corners or a
    list of cells
    """


@tool
def update_note(position: str, content: str) -> None:
    """writes the note at a cell"""


@tool
def insert_rows(values_list: list[Any], row_idx: int) -> None:
    """inserts rows, a list of lists, before a row"""


@tool
def insert_cols(values_list: list[Any], col_idx: int) -> None:
    """inserts columns, a list of lists, before a column"""


@tool
def delete_batch_data(dimension: str, index_list: list[Any]) -> None:
    """deletes rows or columns; the dimension is row or col"""


@tool
def sort_sheet_by_col(col_num: int, order: str) -> None:
    """sorts by a column: asc or des; freeze the first row before"""


@tool
def freeze_data(dimension: str, num: int) -> None:
    """freezes the first rows or columns; the dimension is rows or columns"""


@tool
def merge_cells(start_position: str, end_position: str) -> None:
    """makes one cell of several"""


@tool
def del_sheet(name: str) -> None:
    """deletes a sheet"""


@tool
def finish() -> None:
    """ends the task"""


TOOLS = (
    open_sheet,
    get_all_values,
    get_range_values,
    get_cell_value,
    get_value_by_formula,
    get_A1_annotation,
    filter_cells,
    get_note,
    update_cell,
    update_range,
    update_cell_by_formula,
    update_note,
    insert_rows,
    insert_cols,
    delete_batch_data,
    sort_sheet_by_col,
    freeze_data,
    merge_cells,
    del_sheet,
    finish,
)
