"""The vocabulary: ids, time, errors, outcomes, secrets, names. Standard library only."""
