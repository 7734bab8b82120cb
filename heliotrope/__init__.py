"""Heliotrope keeps a deployed model right: models that turn with the world.

Importing this package imports nothing heavy; each part imports what it needs.
"""

__version__ = "0.1.0"
