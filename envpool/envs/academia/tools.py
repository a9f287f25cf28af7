"""The actions of academia."""

from __future__ import annotations

from envpool.tool_servers import CHECK, FINISH, tool

TOOLS = (
    tool("loadPaperNet()", "loads the graph of papers and their citations; load a graph before you ask it"),
    tool("loadAuthorNet()", "loads the graph of authors and whom they wrote with"),
    tool("neighbourCheck(graph, node)", "the neighbours of a node; the graph is PaperNet or AuthorNet"),
    tool(
        "paperNodeCheck(node)", "authors, year, venue, number of citations and keywords of a paper, named by its title"
    ),
    tool("authorNodeCheck(node)", "the name and the organisation of an author"),
    tool("authorEdgeCheck(node1, node2)", "the papers that two authors wrote together"),
    CHECK,
    FINISH,
)
