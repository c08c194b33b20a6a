"""What a call is sent to; each backend knows the core and the fault vocabulary, and no other backend."""
