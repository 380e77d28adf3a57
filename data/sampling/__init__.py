"""Who samples: this process, or a completion server."""
