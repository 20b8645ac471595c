"""The schema's history. A step, once released, is never edited."""
