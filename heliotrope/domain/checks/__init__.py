"""Pure checks: profiles and counts in, findings out. One family a module."""
