"""The actions of sheet."""

from __future__ import annotations

from envpool.tool_servers import tool

_RANGE = "start_position, end_position"
_CELLS = "start_position?, end_position?, position_list:list?"
_OPERATORS = "operators: SUM, AVERAGE, COUNT, MAX, MIN, MINUS, PRODUCT; give two corners or a list of cells"

TOOLS = (
    tool("open_sheet(name)", "opens a sheet; do this first"),
    tool("get_all_values()", "shows the whole sheet"),
    tool(f"get_range_values({_RANGE})", "shows a part of it; cells are written as in 'B2'"),
    tool("get_cell_value(position)", "shows one cell"),
    tool(f"get_value_by_formula(operator, {_CELLS})", f"computes from cells; {_OPERATORS}"),
    tool("get_A1_annotation(row:int, col:int)", "turns row and column, counted from 1, into a name such as 'B2'"),
    tool("filter_cells(query, in_row:int?, in_column:int?)", "finds the cells that hold a text"),
    tool("get_note(position)", "reads the note at a cell"),
    tool("update_cell(position, value:any)", "sets one cell"),
    tool(f"update_range({_RANGE}, values_list:list)", "sets a part of the sheet, as a list of rows"),
    tool(f"update_cell_by_formula(operator, result_position, {_CELLS})", f"computes from cells into one; {_OPERATORS}"),
    tool("update_note(position, content)", "writes the note at a cell"),
    tool("insert_rows(values_list:list, row_idx:int)", "inserts rows, a list of lists, before a row"),
    tool("insert_cols(values_list:list, col_idx:int)", "inserts columns, a list of lists, before a column"),
    tool("delete_batch_data(dimension, index_list:list)", "deletes rows or columns; the dimension is row or col"),
    tool("sort_sheet_by_col(col_num:int, order)", "sorts by a column: asc or des; freeze the first row before"),
    tool("freeze_data(dimension, num:int)", "freezes the first rows or columns; the dimension is rows or columns"),
    tool(f"merge_cells({_RANGE})", "makes one cell of several"),
    tool("del_sheet(name)", "deletes a sheet"),
    tool("finish()", "ends the task"),
)
