"""Sheet: spreadsheets edited as asked."""
