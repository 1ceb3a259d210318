"""The console: which picture, why, and what to do."""
