"""In a package, pytest ends package-scoped fixtures when it leaves the folder, and not at the end of the session."""
