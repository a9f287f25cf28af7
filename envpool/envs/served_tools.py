"""The actions of the environments that live behind servers, in the syntax that AgentGym's servers read.

The tool servers (academia, movie, sheet, todo, weather) all read ``NAME with Action Input: {...}`` on one line. They
give the braces to Python's `eval`, so run them only where a model's text can do no harm.
"""

from __future__ import annotations

from envpool.spec import Tool

ALFWORLD = (
    Tool("go_to", "go to {receptacle}", "walks to a place, as in 'desk 1'"),
    Tool("take", "take {object} from {receptacle}", "picks up an object where you are"),
    Tool("put", "put {object} in/on {receptacle}", "puts down what you hold"),
    Tool("open", "open {receptacle}", "opens a closed place, to see what is in it"),
    Tool("close", "close {receptacle}", "closes it again"),
    Tool("use", "use {object}", "switches a lamp on"),
    Tool("clean", "clean {object} with {receptacle}", "washes what you hold, at a sink"),
    Tool("heat", "heat {object} with {receptacle}", "heats what you hold, with a microwave"),
    Tool("cool", "cool {object} with {receptacle}", "cools what you hold, with a fridge"),
    Tool("slice", "slice {object} with {tool}", "cuts an object with a knife that you hold"),
    Tool("examine", "examine {thing}", "looks closely at the place where you are, or at the object you hold"),
    Tool("inventory", "inventory", "tells what you hold"),
    Tool("look", "look", "tells what is around you"),
)

SCIWORLD = (
    Tool("look_around", "look around", "describes the room"),
    Tool("look_at", "look at {object}", "describes an object"),
    Tool("look_in", "look in {container}", "tells what is in it"),
    Tool("go_to", "go to {place}", "walks to a neighbouring room; the door must be open"),
    Tool("open", "open {object}", "opens a door or a container"),
    Tool("close", "close {object}", "closes it"),
    Tool("pick_up", "pick up {object}", "takes an object"),
    Tool("put_down", "put down {object}", "drops an object you hold"),
    Tool("move", "move {object} to {container}", "puts an object into or onto another"),
    Tool("pour", "pour {liquid} into {container}", "pours a liquid"),
    Tool("dunk", "dunk {container} into {liquid}", "dips a container into a liquid"),
    Tool("mix", "mix {container}", "lets what is in it react"),
    Tool("activate", "activate {device}", "switches a device on"),
    Tool("deactivate", "deactivate {device}", "switches it off"),
    Tool("use", "use {object}", "uses a thing by itself"),
    Tool("use_on", "use {object} on {target}", "uses a thing on another, as in a thermometer on water"),
    Tool("connect", "connect {part} to {other}", "connects electrical parts at their terminals"),
    Tool("disconnect", "disconnect {part}", "takes its wires off"),
    Tool("read", "read {object}", "reads a note or a book"),
    Tool("eat", "eat {food}", "eats it"),
    Tool("flush", "flush {object}", "flushes a toilet"),
    Tool("focus_on", "focus on {object}", "declares what the task is about; a wrong one ends the episode"),
    Tool("wait", "wait", "lets ten moments pass"),
    Tool("wait_one", "wait1", "lets one moment pass"),
    Tool("task", "task", "repeats the task"),
    Tool("inventory", "inventory", "tells what you hold"),
    Tool("choose", "{number:int}", "answers the question which of several things you meant"),
)

WEBSHOP = (
    Tool("search", "search[{keywords}]", "searches the shop, from any page"),
    Tool("click", "click[{label}]", "clicks a button, a product or an option of the page, named as it is shown"),
)

WEBARENA = (
    Tool("click", "click [{id:int}]", "clicks the element with this number"),
    Tool("type", "type [{id:int}] [{text}] [{enter:int}]", "types into a field; enter 1 presses Enter after it, 0 not"),
    Tool("hover", "hover [{id:int}]", "moves the mouse over an element"),
    Tool("press", "press [{keys}]", "presses keys, as in 'Ctrl+v'"),
    Tool("scroll", "scroll [{direction}]", "scrolls the page: up or down"),
    Tool("new_tab", "new_tab", "opens an empty tab"),
    Tool("tab_focus", "tab_focus [{index:int}]", "goes to another tab"),
    Tool("close_tab", "close_tab", "closes the tab"),
    Tool("goto", "goto [{url}]", "opens an address"),
    Tool("go_back", "go_back", "goes back to the page before"),
    Tool("go_forward", "go_forward", "goes forward again"),
    Tool(
        "stop", "stop [{answer}]", "ends the task with your answer; empty if none is asked for, N/A if it is impossible"
    ),
)

SQLGYM = (Tool("query", "{sql}", "runs one SQLite query; what it returns is your answer"),)

SEARCHQA = (
    Tool("search", "<search>{query}</search>", "searches Wikipedia and shows the passages found"),
    Tool("answer", "<answer>{answer}</answer>", "answers the question, in a few words"),
)


def _tool(signature: str, summary: str) -> Tool:
    """Makes a tool of ``name(parameter, ...)`` as the tool servers read it."""
    name, _, parameters = signature.rstrip(")").partition("(")
    return Tool(name, f"{name} with Action Input: {{{{{parameters}}}}}", summary)


_FINISH = _tool("finish(answer:any)", "ends the task with the answer, and with nothing but the answer")
_CHECK = _tool("check_valid_actions()", "lists the tools")
_DATE = _tool("get_user_current_date()", "today, as YYYY-MM-DD")
_CITY = _tool("get_user_current_location()", "the city of the user")

_PLACE = "latitude:number, longitude:number"
_DAYS = f"{_PLACE}, start_date, end_date"
_TODAY = f"{_PLACE}, current_date"

WEATHER = (
    _tool("get_latitude_longitude(name)", "where a city is; never guess it"),
    _DATE,
    _CITY,
    _tool(f"get_historical_temp({_DAYS})", "temperatures of past days; dates are written YYYY-MM-DD"),
    _tool(f"get_historical_rain({_DAYS})", "rain of past days"),
    _tool(f"get_historical_snow({_DAYS})", "snowfall of past days"),
    _tool(f"get_historical_air_quality_index({_DAYS})", "air quality (PM2.5) of past days"),
    _tool(f"get_current_temp({_TODAY})", "temperature of today"),
    _tool(f"get_current_rain({_TODAY})", "rain of today"),
    _tool(f"get_current_snow({_TODAY})", "snowfall of today"),
    _tool(f"get_current_air_quality_index({_TODAY})", "air quality (PM2.5) of today"),
    _tool(f"get_temp_forecast({_DAYS})", "temperatures of days to come"),
    _tool(f"get_rain_forecast({_DAYS})", "rain of days to come"),
    _tool(f"get_snow_forecast({_DAYS})", "snowfall of days to come"),
    _tool("get_air_quality_level(air_quality_index:number)", "puts an index into words, from good to extremely poor"),
    _tool(f"get_elevation({_PLACE})", "height above the sea"),
    _tool(
        "get_distance(latitude1:number, longitude1:number, latitude2:number, longitude2:number)",
        "kilometres between two places",
    ),
    _CHECK,
    _FINISH,
)

MOVIE = (
    _tool("get_search_movie(movie_name)", "finds a film and its id; never guess an id"),
    _tool("get_movie_details(movie_id)", "budget, genres, revenue, votes and release date"),
    _tool("get_movie_production_companies(movie_id)", "the companies that made it"),
    _tool("get_movie_production_countries(movie_id)", "the countries it was made in"),
    _tool("get_movie_cast(movie_id)", "up to ten of its actors"),
    _tool("get_movie_crew(movie_id)", "up to ten of its crew, such as director, producer and writer"),
    _tool("get_movie_keywords(movie_id)", "its keywords"),
    _tool("get_movie_alternative_titles(movie_id)", "its other titles"),
    _tool("get_movie_translation(movie_id)", "its description in other languages"),
    _tool("get_search_person(person_name)", "finds a person and their id"),
    _tool("get_person_details(person_id)", "biography, birthday and place of birth"),
    _tool("get_person_cast(person_id)", "up to ten films the person acted in"),
    _tool("get_person_crew(person_id)", "up to ten films the person worked on"),
    _tool("get_person_external_ids(person_id)", "the person's names on IMDB, Facebook, Instagram and Twitter"),
    _CHECK,
    _FINISH,
)

ACADEMIA = (
    _tool("loadPaperNet()", "loads the graph of papers and their citations; load a graph before you ask it"),
    _tool("loadAuthorNet()", "loads the graph of authors and whom they wrote with"),
    _tool("neighbourCheck(graph, node)", "the neighbours of a node; the graph is PaperNet or AuthorNet"),
    _tool(
        "paperNodeCheck(node)", "authors, year, venue, number of citations and keywords of a paper, named by its title"
    ),
    _tool("authorNodeCheck(node)", "the name and the organisation of an author"),
    _tool("authorEdgeCheck(node1, node2)", "the papers that two authors wrote together"),
    _CHECK,
    _FINISH,
)

_RANGE = "start_position, end_position"
_CELLS = "start_position?, end_position?, position_list:list?"
_OPERATORS = "operators: SUM, AVERAGE, COUNT, MAX, MIN, MINUS, PRODUCT; give two corners or a list of cells"

SHEET = (
    _tool("open_sheet(name)", "opens a sheet; do this first"),
    _tool("get_all_values()", "shows the whole sheet"),
    _tool(f"get_range_values({_RANGE})", "shows a part of it; cells are written as in 'B2'"),
    _tool("get_cell_value(position)", "shows one cell"),
    _tool(f"get_value_by_formula(operator, {_CELLS})", f"computes from cells; {_OPERATORS}"),
    _tool("get_A1_annotation(row:int, col:int)", "turns row and column, counted from 1, into a name such as 'B2'"),
    _tool("filter_cells(query, in_row:int?, in_column:int?)", "finds the cells that hold a text"),
    _tool("get_note(position)", "reads the note at a cell"),
    _tool("update_cell(position, value:any)", "sets one cell"),
    _tool(f"update_range({_RANGE}, values_list:list)", "sets a part of the sheet, as a list of rows"),
    _tool(
        f"update_cell_by_formula(operator, result_position, {_CELLS})", f"computes from cells into one; {_OPERATORS}"
    ),
    _tool("update_note(position, content)", "writes the note at a cell"),
    _tool("insert_rows(values_list:list, row_idx:int)", "inserts rows, a list of lists, before a row"),
    _tool("insert_cols(values_list:list, col_idx:int)", "inserts columns, a list of lists, before a column"),
    _tool("delete_batch_data(dimension, index_list:list)", "deletes rows or columns; the dimension is row or col"),
    _tool("sort_sheet_by_col(col_num:int, order)", "sorts by a column: asc or des; freeze the first row before"),
    _tool("freeze_data(dimension, num:int)", "freezes the first rows or columns; the dimension is rows or columns"),
    _tool(f"merge_cells({_RANGE})", "makes one cell of several"),
    _tool("del_sheet(name)", "deletes a sheet"),
    _tool("finish()", "ends the task"),
)

TODO = (
    _tool("get_projects()", "all projects with their ids; never guess an id"),
    _tool(
        "get_tasks(project_id)", "the tasks of a project: id, content, order, priority from 1 to 4 (urgent), due date"
    ),
    _tool("get_task_description(task_id)", "the description of a task: place, tips and the like"),
    _tool("get_task_duration(task_id)", "how long a task takes"),
    _tool("complete_task(task_id)", "marks a task as done"),
    _tool("update_task(task_id, due_date)", "sets when a task is due, as YYYY-MM-DD"),
    _tool("delete_task(task_id)", "deletes a task"),
    _tool("update_project(project_id, is_favorite)", "makes a project a favourite or not: True or False, as text"),
    _DATE,
    _CITY,
    _CHECK,
    _tool(
        "finish(answer:any)",
        "ends the task with the answer to a question, or with 'done' where something was to be done",
    ),
)
