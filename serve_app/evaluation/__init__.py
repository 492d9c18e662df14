"""How good the answers are: query sets, metrics, comparisons, reports."""
