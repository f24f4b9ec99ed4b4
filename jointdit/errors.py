"""Errors that a user can mend."""


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: the file or option, the offending value, and the remedy."""
