"""Tables, the unit of work, the batch writer and migrations; SQLite and PostgreSQL behind one interface."""
