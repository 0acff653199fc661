"""The forms in which tables are sent, as ``Accept`` asks for them."""

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
COLUMNS = "application/vnd.runicorn.columns+json"
"""``{"columns": […], "data": [[…], …]}``: one list of cells a column."""
