"""The import flow: a catalogue in, rows of the index out."""
