"""The actions of weather."""

from __future__ import annotations

from envpool.tool_servers import CHECK, CITY, DATE, FINISH, tool

_PLACE = "latitude:number, longitude:number"
_DAYS = f"{_PLACE}, start_date, end_date"
_TODAY = f"{_PLACE}, current_date"

TOOLS = (
    tool("get_latitude_longitude(name)", "where a city is; never guess it"),
    DATE,
    CITY,
    tool(f"get_historical_temp({_DAYS})", "temperatures of past days; dates are written YYYY-MM-DD"),
    tool(f"get_historical_rain({_DAYS})", "rain of past days"),
    tool(f"get_historical_snow({_DAYS})", "snowfall of past days"),
    tool(f"get_historical_air_quality_index({_DAYS})", "air quality (PM2.5) of past days"),
    tool(f"get_current_temp({_TODAY})", "temperature of today"),
    tool(f"get_current_rain({_TODAY})", "rain of today"),
    tool(f"get_current_snow({_TODAY})", "snowfall of today"),
    tool(f"get_current_air_quality_index({_TODAY})", "air quality (PM2.5) of today"),
    tool(f"get_temp_forecast({_DAYS})", "temperatures of days to come"),
    tool(f"get_rain_forecast({_DAYS})", "rain of days to come"),
    tool(f"get_snow_forecast({_DAYS})", "snowfall of days to come"),
    tool("get_air_quality_level(air_quality_index:number)", "puts an index into words, from good to extremely poor"),
    tool(f"get_elevation({_PLACE})", "height above the sea"),
    tool(
        "get_distance(latitude1:number, longitude1:number, latitude2:number, longitude2:number)",
        "kilometres between two places",
    ),
    CHECK,
    FINISH,
)
