"""Controllers that plan with simulated servers: the digital twin and its clairvoyant bound."""
