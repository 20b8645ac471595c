"""5 admission: who is let through to a host, and the session that this makes."""
