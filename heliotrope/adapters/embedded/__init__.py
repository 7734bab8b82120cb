"""The platform on one machine: no cluster, no Docker."""
