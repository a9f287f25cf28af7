"""The actions of academia."""

from __future__ import annotations

from envpool.tool_servers import check_valid_actions, finish
from envpool.tools import tool


@tool
def loadPaperNet() -> None:
    """loads the graph of papers and their citations; load a graph before you ask it"""


@tool
def loadAuthorNet() -> None:
    """loads the graph of authors and whom they wrote with"""


@tool
def neighbourCheck(graph: str, node: str) -> None:
    """the neighbours of a node; the graph is PaperNet or AuthorNet"""


@tool
def paperNodeCheck(node: str) -> None:
    """authors, year, venue, number of citations and keywords of a paper, named by its title"""


@tool
def authorNodeCheck(node: str) -> None:
    """the name and the organisation of an author"""


@tool
def authorEdgeCheck(node1: str, node2: str) -> None:
    """the papers that two authors wrote together"""


TOOLS = (
    loadPaperNet,
    loadAuthorNet,
    neighbourCheck,
    paperNodeCheck,
    authorNodeCheck,
    authorEdgeCheck,
    check_valid_actions,
    finish,
)
