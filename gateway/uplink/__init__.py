"""The MQTT side: the session with the broker, the publisher, the payloads."""
