"""Model weights, with the digests that pin them."""
