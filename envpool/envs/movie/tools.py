"""The actions of movie."""

from __future__ import annotations

from envpool.tool_servers import check_valid_actions, finish
from envpool.tools import tool


@tool
def get_search_movie(movie_name: str) -> None:
    """finds a film and its id; never guess an id"""


@tool
def get_movie_details(movie_id: str) -> None:
    """budget, genres, revenue, votes and release date"""


@tool
def get_movie_production_companies(movie_id: str) -> None:
    """the companies that made it"""


@tool
def get_movie_production_countries(movie_id: str) -> None:
    """the countries it was made in"""


@tool
def get_movie_cast(movie_id: str) -> None:
    """up to ten of its actors"""


@tool
def get_movie_crew(movie_id: str) -> None:
    """up to ten of its crew, such as director, producer and writer"""


@tool
def get_movie_keywords(movie_id: str) -> None:
    """its keywords"""


@tool
def get_movie_alternative_titles(movie_id: str) -> None:
    """its other titles"""


@tool
def get_movie_translation(movie_id: str) -> None:
    """its description in other languages"""


@tool
def get_search_person(person_name: str) -> None:
    """finds a person and their id"""


@tool
def get_person_details(person_id: str) -> None:
    """biography, birthday and place of birth"""


@tool
def get_person_cast(person_id: str) -> None:
    """up to ten films the person acted in"""


@tool
def get_person_crew(person_id: str) -> None:
    """up to ten films the person worked on"""


@tool
def get_person_external_ids(person_id: str) -> None:
    """the person's names on IMDB, Facebook, Instagram and Twitter"""


TOOLS = (
    get_search_movie,
    get_movie_details,
    get_movie_production_companies,
    get_movie_production_countries,
    get_movie_cast,
    get_movie_crew,
    get_movie_keywords,
    get_movie_alternative_titles,
    get_movie_translation,
    get_search_person,
    get_person_details,
    get_person_cast,
    get_person_crew,
    get_person_external_ids,
    check_valid_actions,
    finish,
)
