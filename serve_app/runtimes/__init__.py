"""The two networks in runtimes that are faster than PyTorch, and how near they have to come to it."""
