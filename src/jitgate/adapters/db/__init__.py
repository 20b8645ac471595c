"""The database: SQLite in one file, or PostgreSQL. Nothing outside this folder imports SQLAlchemy."""
