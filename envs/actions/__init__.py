"""Action encodings: how an agent's action becomes knobs, and knobs an action."""
