"""The arithmetic behind ``engine.protocol.Backend``."""
