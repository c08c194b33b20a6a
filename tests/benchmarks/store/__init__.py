"""What storing costs, and what reading back takes."""
