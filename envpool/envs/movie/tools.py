"""The actions of movie."""

from __future__ import annotations

from envpool.tool_servers import CHECK, FINISH, tool

TOOLS = (
    tool("get_search_movie(movie_name)", "finds a film and its id; never guess an id"),
    tool("get_movie_details(movie_id)", "budget, genres, revenue, votes and release date"),
    tool("get_movie_production_companies(movie_id)", "the companies that made it"),
    tool("get_movie_production_countries(movie_id)", "the countries it was made in"),
    tool("get_movie_cast(movie_id)", "up to ten of its actors"),
    tool("get_movie_crew(movie_id)", "up to ten of its crew, such as director, producer and writer"),
    tool("get_movie_keywords(movie_id)", "its keywords"),
    tool("get_movie_alternative_titles(movie_id)", "its other titles"),
    tool("get_movie_translation(movie_id)", "its description in other languages"),
    tool("get_search_person(person_name)", "finds a person and their id"),
    tool("get_person_details(person_id)", "biography, birthday and place of birth"),
    tool("get_person_cast(person_id)", "up to ten films the person acted in"),
    tool("get_person_crew(person_id)", "up to ten films the person worked on"),
    tool("get_person_external_ids(person_id)", "the person's names on IMDB, Facebook, Instagram and Twitter"),
    CHECK,
    FINISH,
)
