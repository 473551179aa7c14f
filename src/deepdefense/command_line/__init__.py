"""The command `deepdefense`: an evaluation from a terminal, the same as `deepdefense.evaluate`."""
