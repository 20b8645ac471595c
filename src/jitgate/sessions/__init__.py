"""5 admission: the hosts that can be reached, and (later) who is let through to them and what is recorded."""
