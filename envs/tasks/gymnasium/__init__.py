"""Gymnasium's MuJoCo v5 environments as batched tasks, bitwise equal to `gymnasium.make`.

Each follows the published definition of its v5 environment and reads the model file that Gymnasium ships; the tests
step both side by side and compare observation, reward and termination for exact equality.
"""
