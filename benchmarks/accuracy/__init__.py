"""How well the cost model predicts what was timed on a GPU."""
