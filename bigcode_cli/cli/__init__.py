"""The command line: flags to a request, a request to a session, an answer to the screen."""
