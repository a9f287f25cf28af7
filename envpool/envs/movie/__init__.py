"""Movie: questions about films and people."""
