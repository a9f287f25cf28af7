"""The actions of todo."""

from __future__ import annotations

from typing import Any

from envpool.tool_servers import check_valid_actions, get_user_current_date, get_user_current_location
from envpool.tools import tool


@tool
def get_projects() -> None:
    """all projects with their ids; never guess an id"""


@tool
def get_tasks(project_id: str) -> None:
    """the tasks of a project: id, content, order, priority from 1 to 4 (urgent), due date"""


@tool
def get_task_description(task_id: str) -> None:
    """the description of a task: place, tips and the like"""


@tool
def get_task_duration(task_id: str) -> None:
    """how long a task takes"""


@tool
def complete_task(task_id: str) -> None:
    """marks a task as done"""


@tool
def update_task(task_id: str, due_date: str) -> None:
    """sets when a task is due, as YYYY-MM-DD"""


@tool
def delete_task(task_id: str) -> None:
    """deletes a task"""


@tool
def update_project(project_id: str, is_favorite: str) -> None:
    """makes a project a favourite or not: True or False, as text"""


@tool
def finish(answer: str | float | list[Any]) -> None:
    """ends the task with the answer to a question, or with 'done' where something was to be done"""


TOOLS = (
    get_projects,
    get_tasks,
    get_task_description,
    get_task_duration,
    complete_task,
    update_task,
    delete_task,
    update_project,
    get_user_current_date,
    get_user_current_location,
    check_valid_actions,
    finish,
)
