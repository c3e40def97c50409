"""Every fault of the catalogue, through both facades."""
