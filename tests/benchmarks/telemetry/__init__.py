"""What `OpenTelemetryObserver` adds to a call."""
