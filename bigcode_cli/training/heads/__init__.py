"""Heads that classify: training them, and the data of those that come with the package."""
