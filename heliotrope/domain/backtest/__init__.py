"""Recorded history under other settings: what is played, asked for, and judged by. Pure."""
