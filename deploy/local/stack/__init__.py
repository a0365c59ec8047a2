"""The one-machine deployment: a supervisor, a private PostgreSQL, the services and the gateway."""
