"""What must hold whatever happens: each test states one invariant and looks for a history that breaks it."""
