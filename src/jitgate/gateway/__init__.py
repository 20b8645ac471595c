"""Transport: the one port. Its listener tells by a connection's first bytes what it carries, and hands it on."""
