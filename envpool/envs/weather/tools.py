"""The actions of weather."""

from __future__ import annotations

from envpool.tool_servers import check_valid_actions, finish, get_user_current_date, get_user_current_location
from envpool.tools import tool


@tool
def get_latitude_longitude(name: str) -> None:
    """where a city is; never guess it"""


@tool
def get_historical_temp(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """temperatures of past days; dates are written YYYY-MM-DD"""


@tool
def get_historical_rain(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """rain of past days"""


@tool
def get_historical_snow(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """snowfall of past days"""


@tool
def get_historical_air_quality_index(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """air quality (PM2.5) of past days"""


@tool
def get_current_temp(latitude: float, longitude: float, current_date: str) -> None:
    """temperature of today"""


@tool
def get_current_rain(latitude: float, longitude: float, current_date: str) -> None:
    """rain of today"""


@tool
def get_current_snow(latitude: float, longitude: float, current_date: str) -> None:
    """snowfall of today"""


@tool
def get_current_air_quality_index(latitude: float, longitude: float, current_date: str) -> None:
    """air quality (PM2.5) of today"""


@tool
def get_temp_forecast(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """temperatures of days to come"""


@tool
def get_rain_forecast(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """rain of days to come"""


@tool
def get_snow_forecast(latitude: float, longitude: float, start_date: str, end_date: str) -> None:
    """snowfall of days to come"""


@tool
def get_air_quality_level(air_quality_index: float) -> None:
    """puts an index into words, from good to extremely poor"""


@tool
def get_elevation(latitude: float, longitude: float) -> None:
    """height above the sea"""


@tool
def get_distance(latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> None:
    """kilometres between two places"""


TOOLS = (
    get_latitude_longitude,
    get_user_current_date,
    get_user_current_location,
    get_historical_temp,
    get_historical_rain,
    get_historical_snow,
    get_historical_air_quality_index,
    get_current_temp,
    get_current_rain,
    get_current_snow,
    get_current_air_quality_index,
    get_temp_forecast,
    get_rain_forecast,
    get_snow_forecast,
    get_air_quality_level,
    get_elevation,
    get_distance,
    check_valid_actions,
    finish,
)
