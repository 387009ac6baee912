"""robosuite's environments with the Panda as batched tasks: same physics, controller, observation, reward and success.

Each follows the published definition of its robosuite 1.5.2 environment and compiles the model that robosuite builds;
the tests step both side by side from the same states.
"""
