"""Is the database well: its routes, its schema, its rows, its pace."""
