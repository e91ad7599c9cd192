"""The workflows of 2016, run inside a fold's own process."""
