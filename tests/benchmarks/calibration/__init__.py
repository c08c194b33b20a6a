"""How well `calibrate` recovers servers whose truth is known, and how well what it fits predicts."""
