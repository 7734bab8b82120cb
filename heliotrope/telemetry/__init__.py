"""Every metric, named once."""
