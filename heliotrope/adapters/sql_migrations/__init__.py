"""Alembic's scripts for the controller's state."""
