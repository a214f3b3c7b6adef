"""Figure 9: QoS violations and efficiency of three nodes under one power budget."""
