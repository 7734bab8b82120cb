"""Reports that people read: one HTML file with no network, and the same in Markdown."""
