"""Where sessions live: `local` (this process)."""
