"""Behaviour cloning over a window, conditioned on goals: the baselines that diffusion policies are judged against."""
