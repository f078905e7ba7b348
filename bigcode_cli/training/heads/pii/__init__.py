"""Made-up personal data, and code that it is put into."""
