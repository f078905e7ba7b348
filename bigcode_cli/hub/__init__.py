"""A model name to a verified local folder: built-in, path or Hub id."""
