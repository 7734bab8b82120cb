"""KFP pipelines, and their compiled form in `compiled/` (generated; `make generate`)."""
