"""Errors that a user can correct."""


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: the file or option, the offending value, and the remedy."""


def some(names: list[str]) -> str:
    """The first few of many names, for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def in_one_line(error: object, longest: int = 300) -> str:
    """The message of another library's error, for one line of ours: without line breaks and what a terminal would act
    upon, and not without end."""
    text = "".join(character if character.isprintable() else " " for character in str(error))
    text = " ".join(text.split()) or ("" if isinstance(error, str) else type(error).__name__)
    return text if len(text) <= longest else f"{text[:longest]} ..."


def shortened(text: str, limit: int) -> str:
    """A text on one line, of at most `limit` characters and a mark where its middle is left out; what no terminal shows
    is escaped."""
    line = " ".join(text.split()).encode(errors="backslashreplace").decode()
    if len(line) <= limit:
        return line
    return f"{line[: limit - limit // 3]} [...] {line[-(limit // 3) :]}"
