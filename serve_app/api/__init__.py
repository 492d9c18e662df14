"""The HTTP interface; nothing outside this package knows HTTP."""
