"""A new model taken into service: gate, backfill, roll-out, watch, and back."""
