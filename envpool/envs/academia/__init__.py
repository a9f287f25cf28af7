"""Academia: questions about papers and authors."""
