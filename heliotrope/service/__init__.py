"""Gather, decide, apply: each service gathers through ports, asks the domain, and applies."""
