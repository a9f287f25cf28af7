"""The actions of todo."""

from __future__ import annotations

from envpool.tool_servers import CHECK, CITY, DATE, tool

TOOLS = (
    tool("get_projects()", "all projects with their ids; never guess an id"),
    tool(
        "get_tasks(project_id)", "the tasks of a project: id, content, order, priority from 1 to 4 (urgent), due date"
    ),
    tool("get_task_description(task_id)", "the description of a task: place, tips and the like"),
    tool("get_task_duration(task_id)", "how long a task takes"),
    tool("complete_task(task_id)", "marks a task as done"),
    tool("update_task(task_id, due_date)", "sets when a task is due, as YYYY-MM-DD"),
    tool("delete_task(task_id)", "deletes a task"),
    tool("update_project(project_id, is_favorite)", "makes a project a favourite or not: True or False, as text"),
    DATE,
    CITY,
    CHECK,
    tool(
        "finish(answer:any)",
        "ends the task with the answer to a question, or with 'done' where something was to be done",
    ),
)
