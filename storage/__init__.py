"""The collector: what the messages of the service change in the database, and what it answers."""
