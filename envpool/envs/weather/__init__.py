"""Weather: questions about the weather of any day and place."""
