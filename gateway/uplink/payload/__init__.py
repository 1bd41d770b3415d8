"""What goes over MQTT as bytes: one module per output. Pure."""
