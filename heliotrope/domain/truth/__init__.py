"""Truth: predictions joined with their labels, as statistics of windows that can be added up."""
