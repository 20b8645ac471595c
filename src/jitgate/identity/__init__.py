"""Who is asking: persons, passwords, one-time codes, keys, sign-ins and the proof by a key. Pure code."""
