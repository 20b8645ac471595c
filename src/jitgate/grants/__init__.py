"""How long? A permit becomes a grant, with targets and an end fixed at the opening, until it ends. Pure code."""
