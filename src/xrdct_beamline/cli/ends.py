"""How a command ends, other than well."""

__all__ = ["INTERRUPTED", "REFUSED"]

#: Exit codes: something was refused with a sentence; the user interrupted.
REFUSED = 2
INTERRUPTED = 130
