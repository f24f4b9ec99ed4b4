"""Errors that a user can correct."""


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: the file or option, the offending value, and the remedy."""


def some(names: list[str]) -> str:
    """The first few of many names, for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def shortened(text: str, limit: int) -> str:
    """A text on one line, of at most `limit` characters and a mark where its middle is left out; what no terminal shows
    is escaped."""
    line = " ".join(text.split()).encode(errors="backslashreplace").decode()
    if len(line) <= limit:
        return line
    return f"{line[: limit - limit // 3]} [...] {line[-(limit // 3) :]}"
