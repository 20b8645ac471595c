"""May they? Role files, conditions, the decision and its explanation. Deny by default; a `Deny` rule always wins."""
