"""The exact reference: the best Lipschitz policy on the demonstrations themselves, extended to every observation."""
